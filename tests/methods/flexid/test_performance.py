import pytest
import torch

from idbench.methods.flexid.performance import SAMPLER_STEPS, Bench, measure


def test_every_variant_is_timed_beside_plain_flux():
    lines = measure("flexid", size="tiny", device="cpu", steps=2).splitlines()
    assert "128 px, float32 on cpu" in lines[0]
    assert [line.split("  ")[0] for line in lines[1:4]] == ["plain FLUX", "PuLID-FLUX", "FlexID"]
    assert "%" not in lines[1]
    assert "%" in lines[3]
    assert lines[4].startswith("FlexID over PuLID-FLUX, per step: ")
    assert lines[5].startswith("residual, per image: ")


def test_variants_are_the_methods_and_the_projector_is_in_no_step():
    bench = Bench("tiny", "cpu", torch.float32)
    steps = {"plain": bench.plain(), "pulid": bench.pulid(), "flexid": bench.flexid()}
    fused, texts, outputs = [], [], {name: [] for name in steps}
    bench.projector.network.fuser.register_forward_hook(lambda *_: fused.append(1))
    for name, take in steps.items():
        handles = [
            bench.transformer.register_forward_pre_hook(
                lambda _, args, kwargs: texts.append(kwargs["encoder_hidden_states"]),
                with_kwargs=True,
            ),
            bench.transformer.register_forward_hook(
                lambda _, args, out, name=name: outputs[name].append(out[0])
            ),
        ]
        for _ in range(2):
            take()
        for handle in handles:
            handle.remove()
    assert not fused
    assert all(torch.equal(text, bench.text) for text in texts[:4])
    assert not torch.equal(texts[4], bench.text)
    assert not torch.equal(texts[4], texts[5])  # alpha falls
    assert torch.equal(*outputs["plain"])
    assert torch.equal(*outputs["pulid"])
    assert not torch.equal(outputs["plain"][0], outputs["pulid"][0])
    assert not torch.equal(*outputs["flexid"])


def test_there_are_more_steps_to_time_than_an_image_has():
    take = Bench("tiny", "cpu", torch.float32).flexid()
    for _ in range(SAMPLER_STEPS + 1):
        take()


def test_a_number_of_steps_below_one_is_refused():
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        measure("flexid", size="tiny", device="cpu", steps=0)


def test_published_shapes_fit():
    # nothing is computed on the meta device, but every shape must fit
    bench = Bench("full", "meta", torch.bfloat16)
    assert bench.width == 3072
    assert len(bench.injector.pulid_ca) == 20
    assert sum(p.numel() for p in bench.transformer.parameters()) == 11_901_408_320
    assert bench.project().shape == (1, 512, 4096)
    bench.flexid()()
