"""Folders to networks: the pipeline of FlexIP from an adapter and official checkpoints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import Dinov2Model

from idbench.methods.common.pretrained import (
    from_transformers,
    load_clip_vision,
    load_stable_diffusion,
)
from idbench.methods.common.prompt_encoder import PromptEncoder
from idbench.methods.flexip.checkpoints import load_adapter
from idbench.methods.flexip.config import FlexIPConfig
from idbench.methods.flexip.pipeline import FlexIPPipeline
from idbench.methods.flexip.references import ReferenceEncoder
from idbench.methods.flexip.weights import FlexIPFiles


def load_references(
    settings: Mapping[str, Any],
    clip: Path,
    dino: Path,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
) -> ReferenceEncoder:
    """The frozen image encoders that an adapter reads, from folders of transformers.

    `settings` are arguments of `FlexIPAdapter`, such as an adapter's `config`. `dino` is not read
    where patches come from CLIP.

    Raises:
        OSError: If a folder lacks a file.
        ValueError: If one has other keys than it must have, or cannot make the adapter's inputs.
    """
    networks = {"clip": load_clip_vision(clip)}
    if settings["retrieval"] == "dino":
        networks["dino"] = from_transformers(Dinov2Model, dino)
    for network in networks.values():
        network.requires_grad_(False).train(False).to(device=device, dtype=dtype)
    return ReferenceEncoder(
        networks["clip"],
        networks.get("dino"),
        clip_cls=settings["clip_cls"],
        retrieval=settings["retrieval"],
        image_size=settings["image_size"],
        dino_size=settings["dino_size"],
    )


def load_pipeline(
    files: FlexIPFiles,
    config: FlexIPConfig | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> FlexIPPipeline:
    """Reads everything, and puts the adapter into the UNet.

    Args:
        files: Where the folders are.
        config: Settings; the defaults if None.
        device: Of all networks.
        dtype: Of UNet, VAE, encoders and the adapter's keys and values. Its resamplers stay in
            float32; they run once per image.

    Raises:
        MissingWeightsError: If a folder is absent; the message says how to get it.
        ValueError: If a file has other keys or shapes than it must have, or the adapter was made
            for other networks.
    """
    files.require("adapter", "base", "clip")
    adapter = load_adapter(files.adapter)
    if adapter.config["retrieval"] == "dino":
        files.require("dino")
    tokenizer, text_encoder, vae, unet = load_stable_diffusion(files.base, device, dtype)
    references = load_references(adapter.config, files.clip, files.dino, device=device, dtype=dtype)
    adapter.requires_grad_(False).to(device)
    adapter.attn.to(dtype)
    return FlexIPPipeline(
        adapter=adapter,
        references=references,
        prompts=PromptEncoder(tokenizer, text_encoder),
        unet=unet,
        vae=vae,
        config=config,
    )
