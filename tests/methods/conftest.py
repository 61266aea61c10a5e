"""Fixtures shared by the tests of methods."""

import json
import warnings
from dataclasses import dataclass
from typing import Any

import pytest


@dataclass(frozen=True)
class Golden:
    """A golden file: its metadata, parsed, and its tensors."""

    meta: dict[str, Any]
    tensors: dict[str, Any]

    def __getitem__(self, name):
        return self.tensors[name]

    def part(self, prefix):
        """Tensors whose name starts with `prefix`, without it."""
        return {
            name.removeprefix(prefix): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(prefix)
        }

    def numbered(self, prefix):
        """Tensors `prefix0`, `prefix1`, ... in order."""
        part = self.part(prefix)
        return [part[str(i)] for i in range(len(part))]


@pytest.fixture(scope="session")
def golden(golden_file):
    """Reads the golden safetensors file of a name, once per session."""
    from safetensors import safe_open

    read = {}

    def load(name):
        if name not in read:
            with safe_open(golden_file(f"{name}.safetensors"), "pt") as file:
                meta = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
                names = file.keys()
                read[name] = Golden(meta, {key: file.get_tensor(key) for key in names})
        return read[name]

    return load


@pytest.fixture(scope="session")
def official_frequencies(golden):
    """Frequencies of FLUX's timestep embedding as the machine that made the goldens had them.

    exp() of different maths libraries differs in the last place. At guidance 3.5 the sine of 3500
    times a frequency then moves by up to 2e-4, more than the goldens' tolerance. So of each
    frequency and its two neighbours in float32, the one is taken that gives the golden embedding.
    """
    import math

    import torch

    reference = golden("pulid_flux_tiny_forward")
    embedding, timesteps = reference["out.timestep_embedding"], reference["in.timesteps"] * 1000
    half = embedding.shape[1] // 2
    ours = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
    infinity = torch.full_like(ours, math.inf)
    candidates = torch.stack(
        (ours, torch.nextafter(ours, -infinity), torch.nextafter(ours, infinity))
    )
    angles = timesteps[:, None, None] * candidates
    expected = embedding.unflatten(1, (2, 1, half))
    errors = (torch.stack((angles.cos(), angles.sin()), dim=1) - expected).abs().sum(dim=(0, 1))
    errors[1:] += 1e-6  # a neighbour must be clearly better
    return candidates.gather(0, errors.argmin(dim=0, keepdim=True))[0]


@pytest.fixture(scope="session")
def tiny_flux(golden, official_frequencies):
    """Builds the small FLUX of a golden file in diffusers, and its cross-attention modules.

    Returns a function of the golden's name: (transformer, modules), fresh at every call.
    """
    import torch
    from diffusers import FluxTransformer2DModel

    from idbench.methods.common.flux_weights import to_diffusers, transformer_config
    from idbench.methods.pulid.attention import PerceiverAttentionCA

    class Timesteps(torch.nn.Module):
        def forward(self, timesteps):
            angles = timesteps[:, None].float() * official_frequencies
            return torch.cat((angles.cos(), angles.sin()), dim=-1)

    def build(name):
        reference = golden(name)
        state = reference.part("sd.")
        flux = {key: value for key, value in state.items() if not key.startswith("pulid_ca.")}
        config = transformer_config(flux, tuple(reference.meta["flux"]["axes_dim"]))
        transformer = FluxTransformer2DModel(**config)
        transformer.load_state_dict(to_diffusers(flux), strict=True)
        transformer.time_text_embed.time_proj = Timesteps()
        count = len({key.split(".")[1] for key in state if key.startswith("pulid_ca.")})
        modules = []
        for index in range(count):
            module = PerceiverAttentionCA(**reference.meta["ca"])
            module.load_state_dict(reference.part(f"sd.pulid_ca.{index}."), strict=True)
            modules.append(module.eval().requires_grad_(False))
        return transformer.eval().requires_grad_(False), modules

    return build


@pytest.fixture(scope="session")
def tiny_flux_files():
    """The module that writes tiny FLUX and PuLID files."""
    import importlib.util
    from pathlib import Path

    path = Path(__file__).with_name("tiny_flux_files.py")
    spec = importlib.util.spec_from_file_location("tiny_flux_files", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_flux_weights(tiny_flux_files, tmp_path_factory):
    """A weights folder with a tiny FLUX, PuLID and helpers in the released formats."""
    with warnings.catch_warnings():
        # facexlib calls torchvision with the deprecated `pretrained`
        warnings.filterwarnings("ignore", module="torchvision")
        return tiny_flux_files.write_all(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def portrait_request(tiny_flux_files):
    """Makes a request from the number of a portrait: equal numbers, equal persons."""
    import hashlib

    from idbench.methods.protocol import Reference, Request

    def make(person, *, seed=0, prompt="a portrait", **fields):
        image = tiny_flux_files.portrait(person)
        reference = Reference(image=image, sha256=hashlib.sha256(image.tobytes()).hexdigest())
        fields = {"references": (reference,), **fields}
        return Request(case_id=f"{person}-{seed}", sample=0, seed=seed, prompt=prompt, **fields)

    return make
