"""Speed of scoring: the engine beside the original's way of working, on the same networks.

IBench gives each metric its own loop: it decodes, detects and runs one image at a time, and what
one metric found the next one looks for again. The engine decodes, detects and passes once. Both
run here in one process with one thread, on the networks of IBench's metrics; the references are
not cached between items, as is the case in the original beyond twenty identities. FID's matrix
root, which both would compute once, is left out.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from idbench.extraction import ExtractOptions, Graph, Input, extract, text_input
from idbench.features import FeatureStore
from idbench.metrics.images import read_rgb, sha256_of
from idbench.metrics.protocol import (
    Extractor,
    Features,
    Item,
    Metric,
    Missing,
    MissingValueError,
    Observation,
    Role,
    SetMetric,
)
from idbench.metrics.published_metrics import GROUPS
from idbench.metrics.registry import (
    build_extractor,
    extractor_order,
    missing_requirements,
    resolve,
    resolve_sets,
)

Pixels = NDArray[np.uint8]

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

PROMPT = (
    "In a warmly lit library a person in a grey coat reads a letter by the window, one hand on the "
    "sill, while rain runs down the glass and the street lamps blur behind it; the light is soft, "
    "the wooden shelves reach to the ceiling, and the mood is quiet and a little sad"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `idbench perf score`."""
    parser.add_argument("--identities", type=int, default=2, metavar="N", help="default 2")
    parser.add_argument("--prompts", type=int, default=4, metavar="N", help="default 4")
    parser.add_argument("--side", type=int, default=768, metavar="PIXELS", help="default 768")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="default 16")
    parser.add_argument(
        "--clock",
        choices=["wall", "cpu"],
        default="wall",
        help="cpu: seconds of this process, for a machine with other work to do; not for a GPU",
    )
    parser.add_argument(
        "--random", action="store_true", help="random weights even where real ones are here"
    )
    parser.add_argument(
        "--tiny", action="store_true", help="small random networks, to try the measurement itself"
    )


def measure(args: argparse.Namespace) -> str:
    """Times both ways of working; returns a report.

    Raises:
        ValueError: If a number is below 1.
        ModuleNotFoundError: If a package that the networks need is not installed.
    """
    for name in ("identities", "prompts", "side", "batch_size"):
        if getattr(args, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(args, name)}")
    with tempfile.TemporaryDirectory(prefix="idbench-perf-") as temporary:
        folder = Path(temporary)
        items = _items(folder / "images", args.identities, args.prompts, args.side)
        build, weights = _networks(folder / "weights", items[0], args.random, args.tiny)
        return "\n".join(_report(args, items, build, weights, folder))


@dataclass(frozen=True, slots=True)
class _Item:
    """Files of one item: reference, with identity, without; and its prompt."""

    reference: Path
    generated: Path
    base: Path
    prompt: str


@dataclass(slots=True)
class _Times:
    """Seconds by stage; `networks` is the part of a stage spent inside its networks."""

    clock: Callable[[], float]
    stages: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    networks: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    faces: list[int] = field(default_factory=list)

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Adds the time of the block to a stage."""
        from idbench.metrics.extractors.stopwatch import stopwatch

        start = self.clock()
        with stopwatch(self.clock) as watch:
            yield
        self.stages[stage] += self.clock() - start
        self.networks[stage] += watch.seconds


class _Timed:
    """An extractor whose calls are timed."""

    def __init__(self, extractor: Extractor, times: _Times) -> None:
        self._extractor, self._times = extractor, times
        self.name, self.needs, self.reads = extractor.name, extractor.needs, extractor.reads

    def fingerprint(self) -> Mapping[str, object]:
        return self._extractor.fingerprint()

    def __call__(self, items: Sequence[Item]) -> list[Features | Missing]:
        with self._times.of(self.name):
            found = self._extractor(items)
        if self.name == "antelopev2":
            self._times.faces += [len(f["boxes"]) for f in found if not isinstance(f, Missing)]
        return found


Build = Callable[..., Extractor]


def _networks(folder: Path, item: _Item, random: bool, tiny: bool) -> tuple[Build, str]:
    """How to build an extractor, and what its weights are."""
    needed = [name for name in _wanted_networks() if name not in ("mtcnn", "mtcnn_native")]
    lacking = [line for name in needed for line in missing_requirements(name)]
    packages = [line for line in lacking if line.startswith("package")]
    if packages:
        raise ModuleNotFoundError("; ".join(dict.fromkeys(packages)))
    if not lacking and not random and not tiny:
        return build_extractor, "the released weights"
    from idbench.metrics.extractors.random_weights import random_store

    store, _ = random_store(folder, read_rgb(item.reference), tiny)
    of = "reduced networks" if tiny else "the true architectures"
    return partial(build_extractor, store=store), f"random weights of {of}: scores mean nothing"


def _metrics() -> tuple[list[Metric], list[SetMetric]]:
    names = GROUPS["ibench_all"]
    return resolve(names), resolve_sets(names)


def _wanted_networks() -> list[str]:
    metrics, sets = _metrics()
    needs = [m.needs for m in metrics] + [m.needs for m in sets]
    return extractor_order(sorted({n for need in needs for names in need.values() for n in names}))


def _items(folder: Path, identities: int, prompts: int, side: int) -> list[_Item]:
    """Variations of one photograph, prompt by prompt: every image is a file of its own."""
    from skimage import data

    folder.mkdir(parents=True)
    photograph = Image.fromarray(cast(Any, data).astronaut()).resize(
        (side, side), Image.Resampling.BICUBIC
    )
    random = np.random.default_rng(0)

    def variation(name: str) -> Path:
        noise = random.normal(0, 2, (side, side, 3))
        pixels = np.clip(np.asarray(photograph) + noise, 0, 255).astype(np.uint8)
        path = folder / f"{name}.png"
        Image.fromarray(pixels).save(path)
        return path

    references = [variation(f"r{identity}") for identity in range(identities)]
    return [
        _Item(
            references[identity],
            variation(f"w{prompt}-{identity}"),
            variation(f"o{prompt}-{identity}"),
            f"{PROMPT}, scene {prompt}",
        )
        for prompt in range(prompts)
        for identity in range(identities)
    ]


def _report(
    args: argparse.Namespace, items: Sequence[_Item], build: Build, weights: str, folder: Path
) -> list[str]:
    _one_thread(args.device)
    engine, engine_seconds = _time_engine(args, items, build, folder)
    loop, loop_seconds = _time_loop(args, items, build)
    # MTCNN's pyramid and suppression are part of its forward pass; it has no bare network.
    bare = sum(
        seconds if stage.startswith("mtcnn") else engine.networks[stage]
        for stage, seconds in engine.stages.items()
    )
    count = len(items)
    lines = [
        f"full IBench set on {count} items ({args.identities} identities x {args.prompts} "
        f"prompts), {args.side} x {args.side} px",
        f"device {args.device}, one process, one thread, batches of {args.batch_size}, "
        f"{args.clock} time; {weights}",
        f"faces per image: {np.mean(engine.faces):.1f}",
        "",
        f"per-metric loop   {loop_seconds:9.1f} s   {count / loop_seconds:8.3f} items/s",
        f"engine            {engine_seconds:9.1f} s   {count / engine_seconds:8.3f} items/s",
        f"ratio             {loop_seconds / engine_seconds:9.2f}",
        f"bare networks     {bare:9.1f} s   engine / networks {engine_seconds / bare:.3f}",
        "",
        f"{'stage':<28}{'engine s':>10}{'networks s':>12}{'loop s':>10}",
    ]
    for stage in sorted({*engine.stages, *loop.stages}, key=lambda s: -engine.stages.get(s, 0.0)):
        inside = engine.networks.get(stage, 0.0)
        lines.append(
            f"{stage:<28}{engine.stages.get(stage, 0.0):>10.2f}"
            f"{inside if inside else float('nan'):>12.2f}{loop.stages.get(stage, 0.0):>10.2f}"
        )
    rest = engine_seconds - sum(engine.stages.values())
    lines.append(f"{'decode, store and schedule':<28}{rest:>10.2f}")
    return [line.replace("nan", "  -") for line in lines]


def _clock(args: argparse.Namespace) -> Callable[[], float]:
    return time.process_time if args.clock == "cpu" else time.perf_counter


def _one_thread(device: str) -> None:
    if device == "cpu":
        import torch

        torch.set_num_threads(1)


def _time_engine(
    args: argparse.Namespace, items: Sequence[_Item], build: Build, folder: Path
) -> tuple[_Times, float]:
    """The engine: one extraction over all files, then the metrics on stored features."""
    times = _Times(_clock(args))
    metrics, sets = _metrics()
    roles: dict[Role, list[str]] = {}
    for needs in [*(m.needs for m in metrics), *(m.needs for m in sets)]:
        for role, names in needs.items():
            roles[role] = list(dict.fromkeys([*roles.get(role, []), *extractor_order(names)]))
    built: dict[str, Extractor] = {}

    def once(name: str, *, device: str, dtype: str) -> Extractor:
        if name not in built:
            built[name] = build(name, device=device, dtype=dtype)
        return _Timed(built[name], times)

    graph = Graph(_wanted_networks(), args.device, "float32", once)
    _warm(built, items[0])
    times.stages.clear()
    times.networks.clear()
    times.faces.clear()
    features = FeatureStore(folder / "features.sqlite")
    start = times.clock()
    inputs = [_inputs(item) for item in items]
    wanted = (
        (entry, graph.closure(roles[role]))
        for of_item in inputs
        for role, entry in of_item.items()
        if role in roles
    )
    losses = extract(wanted, graph, features, ExtractOptions(batch_size=args.batch_size))
    if any(losses.values()):
        raise RuntimeError(f"a network failed: {next(v for v in losses.values() if v)}")
    with times.of("metrics"):
        for item, of_item in zip(items, inputs, strict=True):
            observation = _observation(item, of_item, roles, graph, features)
            for metric in metrics:
                _score(metric, observation)
    seconds = times.clock() - start
    features.close()
    return times, seconds


def _inputs(item: _Item) -> dict[Role, Input]:
    return {
        "reference": Input(sha256_of(item.reference), item.reference, item.prompt),
        "generated": Input(sha256_of(item.generated), item.generated, item.prompt),
        "base": Input(sha256_of(item.base), item.base, item.prompt),
        "prompt": text_input(item.prompt),
    }


def _observation(
    item: _Item,
    inputs: Mapping[Role, Input],
    roles: Mapping[Role, Sequence[str]],
    graph: Graph,
    features: FeatureStore,
) -> Observation:
    return Observation(
        prompt=item.prompt,
        features={
            role: (
                {
                    name: features.get([entry.key], graph.fingerprints[name])[entry.key]
                    for name in roles[role]
                },
            )
            for role, entry in inputs.items()
            if role in roles
        },
    )


def _score(metric: Metric, observation: Observation) -> None:
    try:
        metric(observation)
    except MissingValueError:
        return


def _warm(extractors: Mapping[str, Extractor], item: _Item) -> None:
    """Loads every network, outside the measured time of either way."""
    image = read_rgb(item.reference)
    found: dict[str, Any] = {}
    for name, extractor in extractors.items():
        features = {need: found[need] for need in extractor.needs}
        found[name] = extractor([Item(image=image, text=item.prompt, features=features)])[0]


def _time_loop(
    args: argparse.Namespace, items: Sequence[_Item], build: Build
) -> tuple[_Times, float]:
    """The original's way: for each metric, for each item, decode and run one image at a time."""
    from idbench.metrics.extractors.mtcnn import MTCNN

    class Proposals(MTCNN):
        """MTCNN's first two stages, the package's `face_detection_only`."""

        def _output(self, image: Any, boxes: Any) -> Any:
            return np.empty((0, 4)), np.empty(0), np.empty((0, 5, 2))

    times = _Times(_clock(args))
    networks: dict[str, Extractor] = {}
    names = {n for of in LOOPS.values() for _, run in of.values() for n in run}
    for name in extractor_order(sorted(names - {"proposals"})):
        networks[name] = build(name, device=args.device, dtype="float32")
    networks["proposals"] = cast("Extractor", Proposals(device=args.device, max_side=None))
    order = [n for n in ("mtcnn", "proposals", "antelopev2") if n in networks]
    _warm_loop(networks, order, items[0])
    start = times.clock()
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
    return times, times.clock() - start


def _as_needed(found: Mapping[str, Any]) -> dict[str, Any]:
    # The crops ask for IBench's detector by its name here.
    names = {"proposals": "mtcnn_native"}
    return {names.get(name, name): value for name, value in found.items()}


def _warm_loop(networks: Mapping[str, Extractor], first: Sequence[str], item: _Item) -> None:
    image = read_rgb(item.reference)
    found = {name: networks[name]([Item(image=image)])[0] for name in first}
    for name, network in networks.items():
        if name not in first:
            network([Item(image=image, text=item.prompt, features=_as_needed(found))])
