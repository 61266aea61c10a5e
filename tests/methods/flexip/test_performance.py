import pytest
import torch

from idbench.methods.flexip.performance import Bench, measure


@pytest.fixture
def bench():
    return Bench("tiny", "cpu", torch.float32)


def test_every_variant_is_timed_beside_the_base_model():
    lines = measure("flexip", size="tiny", device="cpu", steps=2).splitlines()
    assert "8 x 8 latents (64 px), float32 on cpu" in lines[0]
    assert lines[1].startswith("plain SD 1.5")
    assert "%" not in lines[1]
    assert len(lines) == 8
    assert all("ms" in line and "%" in line for line in lines[2:7])
    assert lines[7].startswith("FlexIP over the two-adapter IP-Adapter of diffusers: ")


def test_variants_use_their_own_attention(bench):
    """The output of a variant does not depend on which one took the last step."""
    seen = []
    forward = bench.unet.forward

    def spy(*args, **kwargs):
        out = forward(*args, **kwargs)
        seen.append(out[0])
        return out

    bench.unet.forward = spy
    steps = [bench.plain(), bench.ip_adapter(16), bench.flexip(0.5), bench.flexip(1.0)]
    for take in (*steps, *reversed(steps)):
        take()
    for one, two in zip(seen[:4], reversed(seen[4:]), strict=True):
        assert torch.equal(one, two)
    assert len({tuple(out.flatten().tolist()) for out in seen[:4]}) == 4


def test_a_number_of_steps_below_one_is_refused():
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        measure("flexip", size="tiny", device="cpu", steps=0)
