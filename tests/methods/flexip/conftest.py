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
