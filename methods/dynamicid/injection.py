"""Puts semantic-activated attention into a UNet and takes its LoRA into the base weights."""

from typing import cast

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from idbench.methods.dynamicid.attention import (
    LORA_RANK,
    LoRA,
    LoRASelfAttention,
    SemanticActivatedAttention,
)
from idbench.methods.dynamicid.control import ContextProjection, SAAControl


def attention_layers(unet: UNet2DConditionModel) -> dict[str, Attention]:
    """Name to attention module in the order of `unet.attn_processors`, the order of `SAA_module`.

    Down blocks come first, then up blocks, then the middle block; `attn1` and `attn2` alternate.
    """
    names = [name.removesuffix(".processor") for name in unet.attn_processors]
    return {name: cast(Attention, unet.get_submodule(name)) for name in names}


def install_saa(unet: UNet2DConditionModel, rank: int = LORA_RANK) -> nn.ModuleList:
    """Replaces all attention processors of the UNet and returns them in `SAA_module` order.

    The identity projections start as copies of the text projections and the LoRA as 0, as the
    official training does: with tokens of no person and `id_scale` 0 the UNet is unchanged.
    Device and dtype are those of the UNet.

    Raises:
        ValueError: If an attention of the UNet is not of the kind that Stable Diffusion 1.5 has.
    """
    layers = attention_layers(unet)
    for name, attn in layers.items():
        if attn.residual_connection or getattr(attn, "group_norm", None) or attn.norm_cross:
            raise ValueError(
                f"{name} has a residual or a norm inside, which semantic-activated attention does "
                "not apply; use a Stable Diffusion 1.5 UNet"
            )
    processors = nn.ModuleList(_processor(name, attn, rank) for name, attn in layers.items())
    processors.to(device=unet.device, dtype=unet.dtype)
    unet.set_attn_processor(
        {f"{name}.processor": module for name, module in zip(layers, processors, strict=True)}
    )
    return processors


def _processor(name: str, attn: Attention, rank: int) -> LoRASelfAttention:
    hidden_size, context_size = attn.to_k.weight.shape
    if name.endswith("attn1"):
        self_attention = LoRASelfAttention(hidden_size, rank=rank)
        self_attention.layer_name = name
        return self_attention
    processor = SemanticActivatedAttention(hidden_size, context_size, rank)
    processor.layer_name = name
    with torch.no_grad():
        processor.to_k_ip.weight.copy_(attn.to_k.weight)
        processor.to_v_ip.weight.copy_(attn.to_v.weight)
    return processor


@torch.no_grad()
def merge_lora(unet: UNet2DConditionModel) -> None:
    """Adds every LoRA to the weight it updates, in float32, so that inference does not pay for it.

    The base weights are changed in place and cannot be had back from the UNet.
    """
    for attn in attention_layers(unet).values():
        processor = attn.processor
        if not isinstance(processor, LoRASelfAttention) or processor.merged:
            continue
        for linear, lora in (
            (attn.to_q, processor.to_q_lora),
            (attn.to_k, processor.to_k_lora),
            (attn.to_v, processor.to_v_lora),
            (attn.to_out[0], processor.to_out_lora),
        ):
            weight = cast(nn.Linear, linear).weight
            weight.copy_(weight.float() + _update(lora))
        processor.merged = True


def _update(lora: LoRA) -> Tensor:
    update: Tensor = lora.up.weight.float() @ lora.down.weight.float()
    return update


def project_contexts(
    unet: UNet2DConditionModel, encoder_hidden_states: Tensor, control: SAAControl
) -> dict[str, ContextProjection]:
    """Keys and values of all cross-attentions, which stay the same over the denoising steps."""
    return {
        name: attn.processor.project_context(
            attn, encoder_hidden_states, control.num_identity_tokens
        )
        for name, attn in attention_layers(unet).items()
        if isinstance(attn.processor, SemanticActivatedAttention)
    }
