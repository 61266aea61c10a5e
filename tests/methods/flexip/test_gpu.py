"""The tiny pipeline on a CUDA device beside the same on the CPU."""

import pytest
import torch

from idbench.methods.flexip.config import FlexIPConfig
from idbench.methods.flexip.loading import load_pipeline

pytestmark = pytest.mark.gpu

# Relative distance of the latents after three steps; half precision keeps 11 and 8 bits.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_latents_are_those_of_the_cpu(load, tiny_files, subjects, generator, cuda, dtype):
    config = FlexIPConfig(num_inference_steps=3, height=64, width=64)
    on_device = load_pipeline(tiny_files, config, device=cuda, dtype=dtype)
    found, expected = (
        pipeline(["a cup", "a hat"], subjects, [generator(3), generator(4)], decode=False).latents
        for pipeline in (on_device, load())
    )
    assert found.device.type == torch.device(cuda).type
    distance = (found.cpu() - expected).norm() / expected.norm()
    assert distance.item() < TOLERANCE[dtype]
