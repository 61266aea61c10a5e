"""A PhotoMaker v2 file in the layout of TencentARC/PhotoMaker-V2."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from idbench.methods.recipes.tiny.adapters import (
    FACE_WIDTH,
    RANK,
    State,
    linear,
    norm,
    perceiver_layers,
    random,
)

CLIP_WIDTH = 64  # one head of CLIP
TOKENS = 2


def write_photomaker(path: Path, network: Any) -> None:
    """For the UNet of a tiny SDXL; one perceiver layer of one head of 128."""
    if path.exists():
        return
    groups = {
        "id_encoder": _encoder(network.config.cross_attention_dim),
        "lora_weights": dict(_lora(network)),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(groups, path)


def _encoder(width: int) -> State:
    clip = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=CLIP_WIDTH,
            projection_dim=CLIP_WIDTH,
            image_size=28,
            patch_size=14,
            intermediate_size=CLIP_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=1,
        )
    )
    former, fuse = "qformer_perceiver", "fuse_module"
    resampler = f"{former}.perceiver_resampler"
    return {
        **clip.state_dict(),
        "visual_projection_2.weight": random(CLIP_WIDTH, CLIP_WIDTH),
        **linear(f"{former}.token_proj.0", 4 * FACE_WIDTH, FACE_WIDTH),
        **linear(f"{former}.token_proj.2", TOKENS * width, 4 * FACE_WIDTH),
        **norm(f"{former}.token_norm", width),
        **linear(f"{resampler}.proj_in", width, CLIP_WIDTH),
        **linear(f"{resampler}.proj_out", width, width),
        **norm(f"{resampler}.norm_out", width),
        **dict(perceiver_layers(f"{resampler}.layers", width, 1, head_width=128, depth=1)),
        **norm(f"{fuse}.mlp1.layernorm", 2 * width),
        **linear(f"{fuse}.mlp1.fc1", width, 2 * width),
        **linear(f"{fuse}.mlp1.fc2", width, width),
        **norm(f"{fuse}.mlp2.layernorm", width),
        **linear(f"{fuse}.mlp2.fc1", width, width),
        **linear(f"{fuse}.mlp2.fc2", width, width),
        **norm(f"{fuse}.layer_norm", width),
    }


def _lora(network: Any) -> Iterator[tuple[str, Tensor]]:
    for name in network.attn_processors:
        attention = network.get_submodule(name.removesuffix(".processor"))
        for part in ("q", "k", "v", "out"):
            layer = attention.to_out[0] if part == "out" else getattr(attention, f"to_{part}")
            outputs, inputs = layer.weight.shape
            yield f"unet.{name}.to_{part}_lora.down.weight", random(RANK, inputs)
            yield f"unet.{name}.to_{part}_lora.up.weight", 0.1 * random(outputs, RANK)
