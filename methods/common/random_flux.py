"""FLUX with random weights, for measurements that need its shapes and not its pictures."""

import torch
from diffusers import FluxTransformer2DModel
from torch import nn

from idbench.methods.common.timing import Size

# Shapes of FLUX.1-dev where nothing is said.
_TINY = {
    "in_channels": 16,
    "num_layers": 3,
    "num_single_layers": 5,
    "attention_head_dim": 16,
    "num_attention_heads": 8,
    "joint_attention_dim": 96,
    "pooled_projection_dim": 32,
    "axes_dims_rope": (4, 6, 6),
}


def random_flux(size: Size, device: str, dtype: torch.dtype) -> FluxTransformer2DModel:
    """FLUX.1-dev's transformer, or one of a few narrow blocks, with random weights."""
    shapes = _TINY if size == "tiny" else {}
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(guidance_embeds=True, **shapes)
    # Filled where it will run: twelve billion numbers are never on the CPU. torch's own `to`: that
    # of diffusers warns of parts to keep in float32 where there are none.
    placed: FluxTransformer2DModel = nn.Module.to(transformer, dtype).to_empty(device=device)
    torch.manual_seed(0)
    for parameter in placed.parameters():
        parameter.data.normal_(std=0.02)
    return placed.requires_grad_(False).train(False)
