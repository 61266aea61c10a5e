import re

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from idbench.methods.common.timing import Timing
from idbench.methods.dynamicid.control import SAAControl
from idbench.methods.dynamicid.injection import attention_layers
from idbench.methods.dynamicid.performance import Bench, measure


def test_the_table_compares_one_to_three_people_with_the_base_model():
    lines = measure("dynamicid", size="tiny", device="cpu", steps=2).splitlines()
    assert "64 px" in lines[0]
    variants = [re.split(r"\s{2,}", line)[0] for line in lines[1:]]
    assert variants == [
        "plain SD 1.5",
        "1 person",
        "2 people",
        "3 people",
        "1 person, LoRA not merged",
    ]
    assert all(re.search(r"\d+\.\d\d ms", line) for line in lines[1:])
    assert all(re.search(r"[+-]\d+\.\d %", line) for line in lines[2:])


def test_overhead_is_relative_to_the_base():
    base = Timing(variant="base", seconds=0.2, peak_mib=None)
    assert Timing(variant="one", seconds=0.23, peak_mib=None).overhead(base) == pytest.approx(0.15)


def test_at_least_one_step_is_timed():
    with pytest.raises(ValueError, match="steps"):
        measure("dynamicid", size="tiny", device="cpu", steps=0)


class Shapes(TorchDispatchMode):
    """Shapes of everything that is computed."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.seen.append(tuple(tensor.shape))
        return out


@torch.no_grad()
def test_no_scores_are_materialised():
    """Neither for the gate nor for the attention: nothing has a row of 4 tokens per query."""
    bench = Bench("tiny", "cpu", torch.float32)
    (name, attn) = next(
        (name, attn) for name, attn in attention_layers(bench.unet).items() if "attn2" in name
    )
    queries, width = 64, attn.to_q.weight.shape[0]
    context = torch.randn(2, 81, 64)
    control = SAAControl(num_people=1)
    with Shapes() as shapes:
        attn(torch.randn(2, queries, width), encoder_hidden_states=context, saa=control)
    assert (2, queries) in shapes.seen  # the gate
    assert not [shape for shape in shapes.seen if shape[-2:] == (queries, 4)], name
    assert not [shape for shape in shapes.seen if shape[-2:] == (queries, 77)], name


def test_the_base_model_is_left_as_it_was():
    """Timing variants in turns must not change what a variant computes."""
    bench = Bench("tiny", "cpu", torch.float32)
    processors = [type(attn.processor).__name__ for attn in bench.layers.values()]
    bench.step(0)()
    assert {type(attn.processor).__name__ for attn in bench.layers.values()} == {"AttnProcessor2_0"}
    bench.step(1)()
    assert [type(attn.processor).__name__ for attn in bench.layers.values()] == processors
