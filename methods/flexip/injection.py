"""Puts gated cross-attention into a UNet, and makes its keys and values ahead of the steps."""

from collections.abc import Mapping
from typing import cast

from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from idbench.methods.flexip.attention import (
    GatedContext,
    GatedCrossAttention,
    GatedKeyValues,
    LayerProjection,
    TextBranch,
)


def cross_attentions(unet: UNet2DConditionModel) -> dict[str, Attention]:
    """Path to attention of every text cross-attention (`attn2`), in the order of the UNet.

    Raises:
        ValueError: If there is none, or one is not of the kind that Stable Diffusion 1.5 has.
    """
    paths = [name.removesuffix(".processor") for name in unet.attn_processors]
    found = {
        path: cast(Attention, unet.get_submodule(path)) for path in paths if path.endswith("attn2")
    }
    if not found:
        raise ValueError(
            "the UNet has no cross-attention named attn2; use a Stable Diffusion 1.5 UNet"
        )
    for path, attn in found.items():
        special = (
            attn.residual_connection
            or attn.norm_cross
            or attn.rescale_output_factor != 1.0
            or any(
                getattr(attn, name, None) is not None
                for name in ("group_norm", "spatial_norm", "norm_q", "norm_k")
            )
        )
        if special or attn.to_k.bias is not None:
            raise ValueError(
                f"{path} has norms, a residual or biases inside, which gated cross-attention does "
                "not apply; use a Stable Diffusion 1.5 UNet"
            )
    return found


def inject(
    unet: UNet2DConditionModel,
    layers: Mapping[str, GatedKeyValues],
    text_branch: TextBranch = "keep",
) -> None:
    """Gives every cross-attention of the UNet the adapter's keys and values of its path.

    Self-attentions keep their processors, and the UNet's own modules and parameters stay as they
    are.

    Raises:
        ValueError: If the adapter was made for other layers; the message names the difference.
    """
    attentions = cross_attentions(unet)
    needed = {path: tuple(attn.to_k.weight.shape) for path, attn in attentions.items()}
    given = {path: tuple(entry.to_k_p.weight.shape) for path, entry in layers.items()}
    if needed != given:
        wrong = sorted(
            f"{path}: {given.get(path, 'absent')} in the adapter, {needed.get(path, 'absent')} in "
            "the UNet"
            for path in needed.keys() | given.keys()
            if needed.get(path) != given.get(path)
        )
        raise ValueError(
            f"the adapter does not belong to this UNet, {len(wrong)} layers differ; the first: "
            f"{wrong[0]}"
        )
    for path, attn in attentions.items():
        attn.set_processor(GatedCrossAttention(path, layers[path], text_branch))


def eject(unet: UNet2DConditionModel) -> None:
    """Gives every cross-attention of the UNet its plain processor back."""
    for attn in cross_attentions(unet).values():
        attn.set_processor(AttnProcessor2_0())


def project_layers(unet: UNet2DConditionModel, context: GatedContext) -> dict[str, LayerProjection]:
    """Keys and values of all cross-attentions, which stay the same over the denoising steps."""
    return {
        path: attn.processor.project(attn, context)
        for path, attn in cross_attentions(unet).items()
        if isinstance(attn.processor, GatedCrossAttention)
    }
