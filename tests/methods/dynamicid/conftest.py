"""Golden cases, tiny weights in the official formats, and a face."""

from dataclasses import dataclass
from typing import Any

import pytest


@dataclass(frozen=True)
class Case:
    """One case of a golden file: its arguments and its tensors, by group and name."""

    name: str
    meta: dict[str, Any]
    tensors: dict[str, Any]

    def group(self, name):
        return {
            key.removeprefix(f"{name}/"): tensor
            for key, tensor in self.tensors.items()
            if key.startswith(f"{name}/")
        }


@pytest.fixture(scope="session")
def cases(golden):
    """Splits a DynamicID golden file into its cases."""

    def split(name):
        file = golden(f"dynamicid_{name}")
        return [
            Case(case, meta, file.part(f"{case}/"))
            for case, meta in file.meta["meta"]["cases"].items()
        ]

    return split


@pytest.fixture(scope="session")
def full_size(cases):
    """The case of a full-size module with closed-form weights, known by one of its inputs."""

    def find(file, given):
        (found,) = (
            entry
            for entry in cases(file)
            if "num_parameters" in entry.meta and f"in/{given}" in entry.tensors
        )
        return found

    return find


@pytest.fixture(scope="session")
def fill_closed_form():
    """Gives a module the weights of the goldens' closed form (goldens/README.md)."""
    import numpy as np
    import torch

    def fill(module):
        state = module.state_dict()
        for k, key in enumerate(sorted(state)):
            tensor = state[key]
            wave = np.sin(0.7310585 * np.arange(tensor.numel(), dtype=np.float64) + 1.37 * k)
            if key.endswith("num_batches_tracked"):
                wave = np.zeros_like(wave)
            elif key.endswith("running_var"):
                wave = 1 + 0.5 * wave
            elif tensor.ndim == 1:
                wave = 1 + 0.2 * wave if key.endswith(".weight") else 0.1 * wave
            else:
                wave = np.sqrt(2 / (tensor.numel() / tensor.shape[0])) * wave
            values = torch.from_numpy(wave.reshape(tensor.shape).astype(np.float32))
            state[key] = values.to(tensor.dtype)
        module.load_state_dict(state, strict=True)
        return module.eval()

    return fill


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory):
    """Random weights of a tiny model, on disk in the official formats."""
    from idbench.methods.dynamicid.tiny import write_tiny_weights

    return write_tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def load(tiny_files):
    """Loads a pipeline from the tiny files with some settings, once per set of settings."""
    import torch

    from idbench.methods.dynamicid.config import DynamicIDConfig
    from idbench.methods.dynamicid.loading import load_pipeline

    loaded = {}

    def build(*, dtype=torch.float32, merge=True, **settings):
        key = (dtype, merge, *sorted(settings.items()))
        if key not in loaded:
            chosen = {"num_inference_steps": 4, "height": 64, "width": 64, **settings}
            config = DynamicIDConfig(**chosen)
            loaded[key] = load_pipeline(tiny_files, config, dtype=dtype, merge=merge)
        return loaded[key]

    return build


@pytest.fixture(scope="session")
def astronaut():
    """A photograph with one face in the middle of the picture, 512 x 512."""
    from PIL import Image
    from skimage import data

    return Image.fromarray(data.astronaut())


@pytest.fixture(scope="session")
def generator():
    import torch

    return lambda seed: torch.Generator().manual_seed(seed)
