"""Images, latents and prompts, through the networks of Stable Diffusion."""

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import AutoencoderKL
from einops import rearrange
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer


@torch.no_grad()
def encode_images(vae: AutoencoderKL, images: Sequence[Image.Image]) -> Tensor:
    """Latents (images, channels, h, w) in float32: the mean of the posterior, nothing is drawn."""
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
    scaled = rearrange(pixels, "b h w c -> b c h w").float() / 127.5 - 1.0
    posterior = vae.encode(scaled.to(vae.device, vae.dtype)).latent_dist
    latents: Tensor = posterior.mean.float() * vae.config["scaling_factor"]
    return latents


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: Tensor, *, truncate: bool = False) -> list[Image.Image]:
    """Images from latents (..., channels, h, w), in order.

    Args:
        vae: The autoencoder.
        latents: In any precision.
        truncate: Cut fractions of an 8-bit level off, as null-text inversion does, instead of
            rounding.
    """
    scaled = latents.flatten(0, -4) / vae.config["scaling_factor"]
    pixels = vae.decode(scaled.to(vae.dtype), return_dict=False)[0].float()
    levels = (pixels / 2 + 0.5).clamp(0, 1) * 255
    array = rearrange(levels if truncate else levels.round(), "b c h w -> b h w c")
    return [Image.fromarray(image) for image in array.to(torch.uint8).cpu().numpy()]


@torch.no_grad()
def encode_prompts(
    tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, prompts: Sequence[str]
) -> Tensor:
    """Embeddings (prompts, 77, dim) in float32."""
    ids = tokenizer(
        list(prompts),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    embeds: Tensor = text_encoder(ids.to(text_encoder.device))[0]
    return embeds.float()
