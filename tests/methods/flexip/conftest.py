"""Tiny weights in the official formats, and what is made of them."""

import pytest


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory):
    """Random weights of a tiny model, on disk in the official formats."""
    from idbench.methods.flexip.tiny import write_tiny_weights

    return write_tiny_weights(tmp_path_factory.mktemp("flexip"))


@pytest.fixture(scope="session")
def load(tiny_files):
    """Loads a pipeline from the tiny files with some settings, once per set of settings."""
    import torch

    from idbench.methods.flexip.config import FlexIPConfig
    from idbench.methods.flexip.loading import load_pipeline

    loaded = {}

    def build(*, dtype=torch.float32, **settings):
        key = (dtype, *sorted((name, str(value)) for name, value in settings.items()))
        if key not in loaded:
            chosen = {"num_inference_steps": 3, "height": 64, "width": 64, **settings}
            loaded[key] = load_pipeline(tiny_files, FlexIPConfig(**chosen), dtype=dtype)
        return loaded[key]

    return build


@pytest.fixture(scope="session")
def generator():
    import torch

    return lambda seed: torch.Generator().manual_seed(seed)


@pytest.fixture(scope="session")
def pictures():
    """Two photographs that ship with scikit-image: a person, square, and a cat, not square."""
    from PIL import Image
    from skimage import data

    return Image.fromarray(data.astronaut()), Image.fromarray(data.chelsea())


@pytest.fixture(scope="session")
def subjects(pictures):
    from idbench.methods.flexip.references import Subject

    return tuple(Subject(pictures=(picture,)) for picture in pictures)


@pytest.fixture
def randomised():
    """Gives every parameter of a module a random value, so that each one matters."""
    import torch

    def fill(module, seed=0, std=0.3):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in sorted(module.named_parameters()):
                noise = torch.randn(parameter.shape, generator=generator) * std
                parameter.copy_(noise + ("norm" in name and name.endswith("weight")))
        return module.eval()

    return fill


@pytest.fixture(scope="session")
def manifest(tmp_path_factory):
    """Twelve images and eight subjects of three views each, drawn: JSONL with relative paths."""
    import json

    import numpy as np
    from PIL import Image

    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    lines = []

    def draw(name, colour, angle):
        y, x = np.mgrid[0:72, 0:80] / 40.0 - 1.0
        stripes = np.sin(6 * (x * np.cos(angle) + y * np.sin(angle)))[..., None]
        pixels = (127 + 100 * stripes * colour).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name)
        return name

    for number in range(12):
        name = draw(f"image{number}.png", rng.uniform(-1, 1, 3), rng.uniform(0, 3))
        caption = f"a stripy thing, number {number}"
        record = {"subject_id": f"i{number}", "modality": "image", "image": name}
        lines.append(record | {"caption": caption})
    for number in range(8):
        colour = rng.uniform(-1, 1, 3)
        names = [draw(f"view{number}_{k}.jpg", colour, k) for k in range(3)]
        record = {
            "subject_id": f"v{number}",
            "modality": ("video", "multiview")[number % 2],
            "frames": names,
            "captions": [f"thing {number} at angle {k}" for k in range(3)],
        }
        lines.append(record)
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="session")
def shards(manifest):
    """The manifest, packed into several small shards."""
    from idbench.methods.flexip.manifest import read_manifest
    from idbench.methods.flexip.shards import write_shards

    folder = manifest.parent / "shards"
    write_shards(read_manifest(manifest), folder, rows_per_shard=5, rows_per_group=2)
    return folder


@pytest.fixture
def configure(tmp_path, shards, tiny_files):
    """Writes a training configuration of the tiny model."""
    import json

    from idbench.methods.flexip.tiny import SIZES

    architecture = {
        key: value for key, value in SIZES.items() if key not in ("class_dim", "patch_dim")
    }
    tiny = {
        "steps": 4,
        "batch_size": 4,
        "resolution": 64,
        "learning_rate": 0.003,
        "mixed_precision": "no",
        "checkpoint_every": 2,
        "workers": 0,
        "window": 2,
        "device": "cpu",
        "architecture": architecture,
    }

    def write(name="run", **settings):
        path = tmp_path / f"{name}.yaml"
        given = {
            "output": name,
            "data": str(shards),
            "weights": str(tiny_files.base.parent),
            **tiny,
            **settings,
        }
        path.write_text(json.dumps(given))
        return path

    return write
