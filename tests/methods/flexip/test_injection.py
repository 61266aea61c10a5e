"""Acceptance check 4, and that the UNet stays what it was."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from idbench.methods.common.tiny_sd15 import tiny_unet
from idbench.methods.flexip.adapter import adapter_for
from idbench.methods.flexip.attention import GatedContext, GatedCrossAttention
from idbench.methods.flexip.gate import Gates
from idbench.methods.flexip.injection import cross_attentions, eject, inject, project_layers
from idbench.methods.flexip.tiny import scattered

TINY = {"class_dim": 6, "patch_dim": 5, "resampler": {"depth": 1, "heads": 1, "dim_head": 8}}


@pytest.fixture
def unet():
    torch.manual_seed(0)
    return tiny_unet().eval().requires_grad_(False)


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    return torch.randn(2, 4, 8, 8), torch.tensor([700, 20]), torch.randn(2, 7, 64)


def context_of(unet, text, **gates):
    layers = tuple(cross_attentions(unet))
    return GatedContext(
        text, torch.randn(2, 5, 64), torch.randn(2, 7, 64), Gates(**gates).of_layers(layers), {}
    )


def test_scale_zero_is_the_base_model_to_the_last_bit(unet, inputs):
    latents, timesteps, text = inputs
    expected = unet(latents, timesteps, text).sample
    inject(unet, scattered(adapter_for(unet, **TINY)).layers())
    found = unet(latents, timesteps, context_of(unet, text, gamma=0.5, scale=0.0)).sample
    assert torch.equal(found, expected)
    changed = unet(latents, timesteps, context_of(unet, text, gamma=0.5, scale=1.0)).sample
    assert not torch.equal(changed, expected)


def test_a_plain_context_is_the_base_model(unet, inputs):
    expected = unet(*inputs).sample
    inject(unet, scattered(adapter_for(unet, **TINY)).layers())
    assert torch.equal(unet(*inputs).sample, expected)


def test_the_unet_keeps_its_parameters_and_its_self_attention(unet):
    names = list(unet.state_dict())
    processors = {
        name: processor
        for name, processor in unet.attn_processors.items()
        if name.endswith("attn1.processor")
    }
    inject(unet, adapter_for(unet, **TINY).layers())
    assert list(unet.state_dict()) == names
    for name, processor in unet.attn_processors.items():
        if name in processors:
            assert processor is processors[name]
        else:
            assert isinstance(processor, GatedCrossAttention)


def test_ejecting_gives_the_plain_processors_back(unet, inputs):
    expected = unet(*inputs).sample
    inject(unet, scattered(adapter_for(unet, **TINY)).layers())
    eject(unet)
    assert not any(isinstance(p, GatedCrossAttention) for p in unet.attn_processors.values())
    assert torch.equal(unet(*inputs).sample, expected)


def test_keys_and_values_made_once_change_nothing(unet, inputs):
    latents, timesteps, text = inputs
    inject(unet, scattered(adapter_for(unet, **TINY)).layers())
    context = context_of(unet, text, gamma=0.3)
    made = context._replace(projections=project_layers(unet, context))
    assert set(made.projections) == set(cross_attentions(unet))
    expected = unet(latents, timesteps, context).sample
    assert torch.equal(unet(latents, timesteps, made).sample, expected)


def test_a_layer_can_have_its_own_strength(unet, inputs):
    """All layers but one off is that one alone: the sum over layers of section 4 of the spec."""
    latents, timesteps, text = inputs
    inject(unet, scattered(adapter_for(unet, **TINY)).layers())
    torch.manual_seed(2)
    off = context_of(unet, text, gamma=0.3, scale=0.0)
    torch.manual_seed(2)
    down = context_of(unet, text, gamma=0.3, layer_scale={"mid_block": 0.0, "up_blocks": 0.0})
    torch.manual_seed(2)
    every = context_of(unet, text, gamma=0.3)
    found = [unet(latents, timesteps, context).sample for context in (off, down, every)]
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])
    for name, gate in down.gates.items():
        assert gate.scale == (1.0 if name.startswith("down_blocks") else 0.0)


def test_gradients_flow_through_gradient_checkpointing(unet, inputs):
    latents, timesteps, text = inputs
    adapter = scattered(adapter_for(unet, **TINY))
    inject(unet, adapter.layers())
    context = context_of(unet, text, gamma=0.3)
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            unet.enable_gradient_checkpointing()
        unet.train()
        adapter.zero_grad()
        unet(latents, timesteps, context).sample.square().mean().backward()
        gradients.append([p.grad.clone() for p in adapter.attn.parameters()])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two)
        assert one.abs().max() > 0


def test_an_adapter_of_another_unet_is_refused_by_name(unet):
    other = tiny_unet((24, 32))
    with pytest.raises(
        ValueError, match=r"3 layers differ.*down_blocks.0.*\(24, 64\) in the adapter"
    ):
        inject(unet, adapter_for(other, **TINY).layers())


def test_a_unet_of_another_kind_is_refused():
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=(8, 8),
            down_block_types=("DownBlock2D", "SimpleCrossAttnDownBlock2D"),
            up_block_types=("SimpleCrossAttnUpBlock2D", "UpBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            norm_num_groups=4,
            attention_head_dim=4,
            cross_attention_dim=8,
        )
    with pytest.raises(ValueError, match=r"Stable Diffusion 1\.5 UNet"):
        inject(unet, {})
