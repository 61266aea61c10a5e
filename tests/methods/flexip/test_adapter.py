"""Acceptance check 10: what is trained, how much of it, and what it starts from."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from idbench.methods.common.tiny_sd15 import tiny_unet
from idbench.methods.flexip.adapter import FlexIPAdapter, adapter_for, stable_diffusion_layers
from idbench.methods.flexip.injection import cross_attentions

TINY = {"class_dim": 6, "patch_dim": 5, "resampler": {"depth": 1, "heads": 1, "dim_head": 8}}


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def full():
    """The adapter of Stable Diffusion 1.5, without memory for its weights."""
    with torch.device("meta"):
        return FlexIPAdapter()


def test_parameters_are_those_of_the_specification(full):
    preservation = full.preservation
    assert count(preservation.resampler_l) == 29_721_600
    assert count(preservation.resampler_l.layers) == 28_329_984
    assert count(preservation.resampler_l.proj_in) == 787_200
    assert count(preservation.resampler_l.proj_out) == 590_592
    assert preservation.resampler_l.latents.numel() == 12_288
    assert count(preservation.resampler_c) == 29_709_312
    assert count(preservation.cls_in) == 787_200
    assert count(full.personalization) == 29_709_312
    assert count(full.attn) == 38_338_560
    assert count(full) == 128_265_984
    assert len(list(full.attn.parameters())) == 64


def test_the_layers_are_those_of_stable_diffusion():
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)
    assert count(unet) == 859_520_964  # section 10: this is that UNet
    found = {path: attn.to_k.weight.shape[0] for path, attn in cross_attentions(unet).items()}
    assert found == stable_diffusion_layers()
    down, mid, up = (
        [width for path, width in found.items() if path.startswith(block)]
        for block in ("down", "mid", "up")
    )
    assert down == [320, 320, 640, 640, 1280, 1280]
    assert mid == [1280]
    assert up == [1280] * 3 + [640] * 3 + [320] * 3


def test_names_are_those_of_the_specification(full):
    names = set(full.state_dict())
    assert "preservation.resampler_l.latents" in names
    assert "preservation.resampler_c.layers.3.0.to_kv.weight" in names
    assert "preservation.cls_in.bias" in names
    assert "personalization.resampler_t.layers.0.1.3.weight" in names
    path = "down_blocks.0.attentions.1.transformer_blocks.0.attn2"
    assert {f"attn.{path}.to_{kind}_{branch}.weight" for kind in "kv" for branch in "ps"} <= names
    starts = ("preservation.resampler_l.", "preservation.resampler_c.", "preservation.cls_in.")
    assert all(
        name.startswith((*starts, "personalization.resampler_t.", "attn.")) for name in names
    )


def test_keys_and_values_start_as_those_of_the_text():
    unet = tiny_unet()
    adapter = adapter_for(unet, **TINY)
    attentions = cross_attentions(unet)
    assert set(adapter.layers()) == set(attentions)
    for path, key_values in adapter.layers().items():
        for branch in "ps":
            key = getattr(key_values, f"to_k_{branch}").weight
            assert torch.equal(key, attentions[path].to_k.weight)
            assert key.data_ptr() != attentions[path].to_k.weight.data_ptr()
            value = getattr(key_values, f"to_v_{branch}").weight
            assert torch.equal(value, attentions[path].to_v.weight)


def test_ablations_leave_modules_out():
    unet = tiny_unet()
    no_learnable = adapter_for(unet, **TINY, use_learnable=False)
    assert no_learnable.preservation.resampler_l is None
    no_cls = adapter_for(unet, **TINY, use_cls=False)
    assert no_cls.preservation.resampler_c is None
    assert no_cls.preservation.cls_in is None
    text, token, patches = torch.zeros(1, 7, 64), torch.zeros(1, 1, 6), torch.zeros(1, 4, 5)
    assert [adapter(text, token, patches)[0].shape[1] for adapter in (no_learnable, no_cls)] == [
        1,
        16,
    ]


def test_a_resampler_of_its_own_size():
    adapter = adapter_for(tiny_unet(), **TINY, resampler_t={"depth": 3})
    assert len(adapter.personalization.resampler_t.layers) == 3
    assert len(adapter.preservation.resampler_l.layers) == 1


def test_a_width_other_than_that_of_the_text_is_refused():
    with pytest.raises(ValueError, match=r"dim must be cross_attention_dim \(64\).*got 32"):
        FlexIPAdapter(dim=32, cross_attention_dim=64, layers={})
