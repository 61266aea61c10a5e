"""IBench's way of working: for each metric a loop that decodes, detects and runs anew."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from idbench.metrics.images import read_rgb
from idbench.metrics.protocol import Extractor, Item
from idbench.metrics.registry import extractor_order
from idbench.perf_times import Spent, Times, timed

Build = Callable[..., Extractor]  # (name, *, device, dtype)

# The original runs all networks of the pack on every face it detects; of the four besides the
# recogniser only the largest, for 68 points, is counted here.
_FACES = ("antelopev2", "antelopev2.pose")

# What IBench's classes do for one item, metric by metric: how often they decode each image and
# which networks they then run on it. `proposals` is MTCNN without its last stage. R is the
# reference, W the image with identity, O the one without. Section C of the metric specification
# counts these by running the original's loops.
LOOPS: Mapping[str, Mapping[str, tuple[int, tuple[str, ...]]]] = {
    "facesim": {"W": (1, _FACES), "R": (1, _FACES)},
    "antifacesim": {"O": (1, _FACES), "R": (1, _FACES)},
    "landmarkdiff": {"W": (1, ("mtcnn",)), "R": (1, ("mtcnn",))},
    "posediv": {
        "W": (2, ("proposals", "hopenet.ibench")),
        "R": (2, ("proposals", "hopenet.ibench")),
    },
    "exprdiv": {
        "W": (2, ("proposals", "fer-vgg19.ibench")),
        "R": (2, ("proposals", "fer-vgg19.ibench")),
    },
    "clip_i": {"W": (1, ("clip_l14.image.ibench",)), "O": (1, ("clip_l14.image.ibench",))},
    "clip_t": {"W": (1, ("clip_l14.image.ibench",)), "text": (0, ("clip_l14.text",))},
    "aesthetic": {"W": (1, ("clip_l14.image.aesthetic",))},
    "image_quality": {"W": (1, ("musiq_spaq.ibench",))},
    "fid": {"W": (1, ("inception",)), "O": (1, ("inception",))},
    "dino": {"W": (1, ("dinov2_base.image",)), "R": (1, ("dinov2_base.image",))},
    "fgis": {
        "W": (2, ("proposals", "dinov2_base.ibench")),
        "R": (2, ("proposals", "dinov2_base.ibench")),
    },
    "facediv1": {
        "W": (2, (*_FACES, "mtcnn")),
        "O": (1, _FACES),
        "R": (2, (*_FACES, "mtcnn")),
    },
    "facediv2": {
        "W": (2, (*_FACES, "mtcnn")),
        "O": (1, _FACES),
        "R": (2, (*_FACES, "mtcnn")),
    },
}


@dataclass(frozen=True, slots=True)
class Images:
    """Files of one item: reference, with identity, without; and its prompt."""

    reference: Path
    generated: Path
    base: Path
    prompt: str


def time_loops(items: Sequence[Images], build: Build, device: str) -> tuple[Times, Spent]:
    """The original's way: for each metric, for each item, decode and run one image at a time."""
    from idbench.metrics.extractors.mtcnn import MTCNN

    class Proposals(MTCNN):
        """MTCNN's first two stages, the package's `face_detection_only`."""

        def _output(self, image: Any, boxes: Any) -> Any:
            return np.empty((0, 4)), np.empty(0), np.empty((0, 5, 2))

    times = Times()
    networks: dict[str, Extractor] = {}
    names = {n for of in LOOPS.values() for _, run in of.values() for n in run}
    for name in extractor_order(sorted(names - {"proposals"})):
        networks[name] = build(name, device=device, dtype="float32")
    networks["proposals"] = cast("Extractor", Proposals(device=device, max_side=None))
    order = [n for n in ("mtcnn", "proposals", "antelopev2") if n in networks]
    _warm_loop(networks, order, items[0])
    with timed() as spent:
        for uses in LOOPS.values():
            for item in items:
                files = {"R": item.reference, "W": item.generated, "O": item.base}
                for image, (decodes, run) in uses.items():
                    pixels = None
                    with times.of("decode"):
                        for _ in range(decodes):
                            pixels = read_rgb(files[image])
                    found: dict[str, Any] = {}
                    for name in run:
                        with times.of(name):
                            found[name] = networks[name](
                                [Item(image=pixels, text=item.prompt, features=_as_needed(found))]
                            )[0]
    return times, spent


def _as_needed(found: Mapping[str, Any]) -> dict[str, Any]:
    # The crops ask for IBench's detector by its name here.
    names = {"proposals": "mtcnn_native"}
    return {names.get(name, name): value for name, value in found.items()}


def _warm_loop(networks: Mapping[str, Extractor], first: Sequence[str], item: Images) -> None:
    image = read_rgb(item.reference)
    found = {name: networks[name]([Item(image=image)])[0] for name in first}
    for name, network in networks.items():
        if name not in first:
            network([Item(image=image, text=item.prompt, features=_as_needed(found))])
