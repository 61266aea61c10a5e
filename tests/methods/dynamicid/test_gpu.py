"""The tiny pipeline on a CUDA device beside the same on the CPU."""

import pytest
import torch

from idbench.methods.dynamicid.config import DynamicIDConfig
from idbench.methods.dynamicid.loading import load_pipeline
from idbench.methods.dynamicid.person import Person

pytestmark = pytest.mark.gpu

# Relative distance of the latents after four steps; half precision keeps 11 and 8 bits, and a gate
# close to its threshold may open or shut.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 5e-2, torch.bfloat16: 2e-1}


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_latents_are_those_of_the_cpu(load, tiny_files, astronaut, generator, cuda, dtype):
    config = DynamicIDConfig(num_inference_steps=4, height=64, width=64)
    on_device = load_pipeline(tiny_files, config, device=cuda, dtype=dtype)
    people = [[Person(references=(astronaut,))]] * 2
    found, expected = (
        pipeline(["a man"] * 2, people, [generator(3), generator(4)], decode=False).latents
        for pipeline in (on_device, load())
    )
    assert found.device.type == torch.device(cuda).type
    distance = (found.cpu() - expected).norm() / expected.norm()
    assert distance.item() < TOLERANCE[dtype]
