import re

import pytest
import torch

from idbench.methods.editid import performance as editid
from idbench.methods.editidv2 import performance as editidv2
from idbench.methods.pulid import performance as pulid
from idbench.methods.pulid.performance import Bench, Variant
from idbench.methods.pulid.pipeline import ConstantWeight


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (pulid, ["PuLID-FLUX"]),
        pytest.param(editid, ["EditID", "PuLID-FLUX"], marks=pytest.mark.slow),
        (editidv2, ["released", "paper"]),
    ],
)
def test_methods_are_timed_beside_plain_flux(module, names):
    # dynamo's own backend, which compiles nothing further: the graphs are those of any backend
    text = module.measure("name", size="tiny", device="cpu", steps=2, backend="eager")
    lines = text.splitlines()
    assert lines[0].startswith("name: FLUX with 4 identity modules, 128 x 128 px")
    timed = [line for line in lines if " ms" in line]
    compiled = [f"{name}, compiled" for name in ["plain FLUX", *names]]
    expected = ["plain FLUX", "hooks without identity", *names, *compiled]
    assert [re.split(r"\s{2,}", line)[0] for line in timed] == expected
    assert [name for name, line in zip(expected, timed, strict=True) if "%" not in line] == [
        "plain FLUX",
        "plain FLUX, compiled",
    ]
    assert " 0 graph breaks; compiling changes a step by " in text
    assert f"{names[0]} over plain FLUX: " in text
    assert "peak of the process" in text


def test_matrix_products_are_those_of_the_published_shapes():
    bench = Bench("full", "meta", torch.bfloat16, width=1024, height=1024, text_tokens=128)
    variant = Variant(name="PuLID-FLUX", plan=ConstantWeight(1.0))
    alone, with_identity = bench.matrix_products(variant)
    # by hand from the layers' shapes: 67.0 TFLOP; identity adds 2.09, of which 0.01 for keys and
    # values is spent once per image
    assert alone == pytest.approx(67.0e12, abs=0.05e12)
    assert with_identity - alone == pytest.approx(2.08e12, abs=0.01e12)
    assert sum(p.numel() for p in bench.transformer.parameters()) == 11_901_408_320
    assert sum(p.numel() for p in bench.injector.parameters()) == 20 * 20_981_760


def test_steps_are_those_of_the_methods():
    bench = Bench("tiny", "cpu", torch.float32, width=0, height=0, text_tokens=0)
    seen = []
    bench.transformer.register_forward_hook(lambda _, args, out: seen.append(out[0]))
    identity = bench.with_identity(Variant(name="PuLID-FLUX", plan=ConstantWeight(1.0)))
    for take in (bench.plain(), bench.plain(hooks=True), identity, bench.plain()):
        take()
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    assert torch.equal(seen[0], seen[3])


def test_at_least_one_step_is_timed():
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        pulid.measure("pulid-flux", size="tiny", device="cpu", steps=0)
