"""What the golden files of the metrics are made with: closed forms and the records themselves."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest


def det_fill(shape, scale, phase):
    """The closed-form tensor of the goldens README."""
    i = np.arange(int(np.prod(shape)), dtype=np.float64)
    values = scale * np.sin(0.6180339887498949 * (i + 1) * (1 + i % 7) + phase)
    return values.astype(np.float32).reshape(shape)


def det_image(height, width, phase):
    """The closed-form RGB picture of the goldens README, uint8."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    channels = [
        127.5
        + 127.5
        * np.sin(0.05 * x * (1 + 0.3 * c) + 0.031 * y * (1 + 0.17 * c) + phase + c)
        * np.cos(0.011 * (x - y) + 0.5 * c)
        for c in range(3)
    ]
    return np.clip(np.rint(np.stack(channels, axis=2)), 0, 255).astype(np.uint8)


def fill_module(module, phase):
    """Fills a torch module as the goldens README says; normalisation layers keep (1, 0)."""
    import torch

    state = module.state_dict()
    with torch.no_grad():
        for k, (name, tensor) in enumerate(state.items()):
            if tensor.ndim >= 2:
                fan_in = int(np.prod(tensor.shape[1:]))
                filled = det_fill(tuple(tensor.shape), np.sqrt(3 / fan_in), phase + k)
            elif name.endswith("bias") and state[name[:-4] + "weight"].ndim >= 2:
                filled = det_fill(tuple(tensor.shape), 0.05, phase + k)
            else:
                continue
            tensor.copy_(torch.from_numpy(filled))
    return module


def named_image(name, phase):
    """The picture that a record names, such as "det_image(300,260,phase)"."""
    height, width = map(int, re.match(r"det_image\((\d+),(\d+),phase\)", name).groups())
    return det_image(height, width, phase)


@pytest.fixture(scope="session")
def closed_forms():
    """The closed forms, as functions."""
    return SimpleNamespace(
        fill=det_fill, image=det_image, named_image=named_image, fill_module=fill_module
    )


@pytest.fixture(scope="session")
def core(golden_file):
    """The records of metrics_core.json."""
    return json.loads(golden_file("metrics_core.json").read_text("utf-8"))


@pytest.fixture(scope="session")
def core_arrays(golden_file):
    """The arrays of metrics_core.safetensors, by name."""
    load_file = pytest.importorskip("safetensors.numpy").load_file
    return load_file(golden_file("metrics_core.safetensors"))


@pytest.fixture(scope="session")
def photographs():
    """Real photographs out of installed wheels, as uint8 RGB: astronaut (one face), t1 (six)."""
    import importlib.util
    from pathlib import Path

    from idbench.metrics.images import read_rgb

    found = {}
    for name, package, path in (
        ("astronaut", "skimage", "data/astronaut.png"),
        ("t1", "insightface", "data/images/t1.jpg"),
    ):
        spec = importlib.util.find_spec(package)
        if spec is None:
            pytest.skip(f"{package} is not installed")
        found[name] = read_rgb(Path(spec.submodule_search_locations[0]) / path)
    return found


@pytest.fixture(scope="session")
def labelled_image():
    """Makes the picture of a label of the detection goldens, such as skimage/astronaut.png#rot15.

    The goldens README says how labels are made; a picture that is not installed is skipped.
    """
    import importlib.util
    from pathlib import Path

    from idbench.metrics.images import read_rgb

    cv2 = pytest.importorskip("cv2")
    folders = {"skimage": "data", "insightface": "data/images"}

    def make(label):
        file, _, variant = label.partition("#")
        source, _, name = file.partition("/")
        spec = importlib.util.find_spec(source) if source in folders else None
        if spec is None:
            pytest.skip(f"the pictures of {source} are not installed")
        image = read_rgb(Path(spec.submodule_search_locations[0]) / folders[source] / name)
        height, width = image.shape[:2]
        if variant == "flip":
            image = np.ascontiguousarray(image[:, ::-1])
        elif variant.startswith("rot"):
            angle = float(variant.removeprefix("rot"))
            turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1)
            image = cv2.warpAffine(image, turn, (width, height))
        elif variant.startswith("scale"):
            factor = float(variant.removeprefix("scale"))
            image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        elif variant:
            pytest.skip(f"no rule for the variant {variant!r}")
        return image

    return make


@pytest.fixture(scope="session")
def embedded():
    """Features of the embedded backend, each picture computed once in a session."""
    from idbench.metrics.protocol import Item, Observation
    from idbench.metrics.registry import (
        build_extractor,
        extractor_order,
        missing_requirements,
        resolve,
    )

    names = extractor_order(["dlib_face", "mtcnn_native"])
    missing = [line for name in names for line in missing_requirements(name)]
    if missing:
        pytest.skip("; ".join(missing))

    class Embedded:
        def __init__(self):
            self.extractors = {
                name: build_extractor(name, device="cpu", dtype="float32") for name in names
            }
            self.known = {}

        def features(self, image):
            key = image.shape, image.tobytes()
            if key not in self.known:
                found = {}
                for name, extractor in self.extractors.items():
                    found[name] = extractor([Item(image=image, features=found)])[0]
                self.known[key] = found
            return self.known[key]

        def score(self, metric, reference, generated):
            """Values of one metric of a pair of pictures, by variant."""
            features = {
                "reference": [self.features(reference)],
                "generated": [self.features(generated)],
            }
            return resolve([metric])[0](Observation(prompt="", features=features))

    return Embedded()
