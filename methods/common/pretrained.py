"""Pretrained networks from folders in their official layouts: offline, strict and quiet."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import (
    AutoConfig,
    CLIPConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
)
from transformers.utils import logging

from idbench.methods.common.state_dicts import describe_keys

NOT_VISION = ("text_model.", "text_projection.", "logit_scale")
"""First parts of the keys of a whole CLIP that its image half with projection does not have."""


def load_stable_diffusion(
    folder: Path, device: torch.device | str, dtype: torch.dtype
) -> tuple[CLIPTokenizer, CLIPTextModel, AutoencoderKL, UNet2DConditionModel]:
    """Tokenizer, text encoder, VAE and UNet of Stable Diffusion 1.x in the layout of diffusers.

    All are frozen and in evaluation mode.

    Raises:
        OSError: If the folder lacks a file.
        ValueError: If the text encoder's file has other keys than it must have.
    """
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    text_encoder = from_transformers(CLIPTextModel, folder / "text_encoder")
    vae = AutoencoderKL.from_pretrained(
        folder / "vae", local_files_only=True, use_safetensors=True, torch_dtype=dtype
    )
    unet = UNet2DConditionModel.from_pretrained(
        folder / "unet", local_files_only=True, use_safetensors=True, torch_dtype=dtype
    )
    for module in (text_encoder, vae, unet):
        module.requires_grad_(False).train(False).to(device)
    return tokenizer, text_encoder.to(dtype), vae, unet


def load_clip_vision(folder: Path) -> CLIPVisionModelWithProjection:
    """The image half of CLIP with its projection, from a folder that may hold the text half too.

    Raises:
        OSError: If the folder lacks a file.
        ValueError: If the image half or its projection is incomplete.
    """
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if isinstance(config, CLIPConfig):
        # The width of the joint space stands at the top; in the image half it may be a default.
        width = config.projection_dim
        config = config.vision_config
        config.projection_dim = width
    return from_transformers(CLIPVisionModelWithProjection, folder, NOT_VISION, config=config)


def from_transformers(
    model_class: type[Any], folder: Path, ignored: tuple[str, ...] = (), *, config: Any = None
) -> Any:
    """Strict `from_pretrained`: keys that are missing, left over or misshapen are an error.

    Args:
        model_class: Of transformers.
        folder: With `config.json` and `model.safetensors`.
        ignored: Beginnings of keys that may be left over.
        config: In place of that of the folder.

    Raises:
        OSError: If the folder lacks a file.
        ValueError: If keys differ; the message names them.
    """
    with _quiet_transformers():
        model, info = model_class.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **({} if config is None else {"config": config}),
        )
    left_over = [key for key in info["unexpected_keys"] if not key.startswith(ignored)]
    # Old checkpoints store the position indices, which are no weights.
    left_over = [key for key in left_over if not key.endswith("position_ids")]
    misshapen = [key for key, *_ in info["mismatched_keys"]]
    if info["missing_keys"] or left_over or misshapen:
        raise ValueError(
            f"{folder}: not a {model_class.__name__}; missing "
            f"{describe_keys(info['missing_keys']) or 'nothing'}, unknown "
            f"{describe_keys(left_over) or 'nothing'}, wrong shape "
            f"{describe_keys(misshapen) or 'nothing'}"
        )
    return model


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Without the report of unused keys, which are checked here, and without progress bars."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
