"""A tiny FlexIP with random weights, in the official file formats.

For tests and for trying the harness on a machine without the real files: `write_tiny_weights`
fills a weights folder that the real loaders read. Its images mean nothing.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import Dinov2Config, Dinov2Model

from idbench.methods.common.tiny_sd15 import (
    CLIP_WIDTH,
    write_tiny_clip,
    write_tiny_stable_diffusion,
)
from idbench.methods.flexip.adapter import FlexIPAdapter, adapter_for
from idbench.methods.flexip.checkpoints import save_adapter
from idbench.methods.flexip.weights import FlexIPFiles

DINO_WIDTH = 24
SIZES: dict[str, Any] = {
    "class_dim": CLIP_WIDTH,
    "patch_dim": DINO_WIDTH,
    "num_learnable": 4,
    "resampler": {"depth": 1, "heads": 2, "dim_head": 8, "ff_mult": 2},
    "image_size": 28,
    "dino_size": 28,
}
"""Arguments of `FlexIPAdapter` for the tiny encoders."""


def write_tiny_dino(folder: Path) -> None:
    """DINOv2 with patches of 14 pixels, made for larger inputs than it gets, as the real one."""
    config = Dinov2Config(
        hidden_size=DINO_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=56,
        patch_size=14,
    )
    Dinov2Model(config).save_pretrained(folder)


def write_tiny_weights(folder: Path, seed: int = 0, **settings: Any) -> FlexIPFiles:
    """Writes every folder that FlexIP reads; the same bytes for the same seed and versions.

    `settings` are arguments of `FlexIPAdapter` that differ from the tiny ones.
    """
    files = FlexIPFiles.in_folder(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = write_tiny_stable_diffusion(files.base)
        write_tiny_clip(files.clip)
        write_tiny_dino(files.dino)
        save_adapter(scattered(adapter_for(unet, **{**SIZES, **settings})), files.adapter)
    return files


@torch.no_grad()
def scattered(adapter: FlexIPAdapter, std: float = 0.2) -> FlexIPAdapter:
    """The adapter with noise on its keys and values, so that its branches differ from the text's.

    They start as copies of the text's, and would hardly differ from one another.
    """
    for parameter in adapter.attn.parameters():
        parameter.add_(torch.randn_like(parameter) * std)
    return adapter
