"""Stable Diffusion 1.5 around its UNet: the sampler, the starting noise and decoding."""

from collections.abc import Sequence

import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from PIL import Image
from torch import Tensor

from idbench.methods.common.latent_sizes import VAE_FACTOR


def ddim_scheduler() -> DDIMScheduler:
    """DDIM with the noise schedule of Stable Diffusion 1.5."""
    scheduler: DDIMScheduler = DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
    )
    return scheduler


def initial_latents(
    generators: Sequence[torch.Generator],
    *,
    channels: int,
    height: int,
    width: int,
    device: torch.device | str,
) -> Tensor:
    """Noise (batch, channels, height / 8, width / 8), float32, each image from its own generator.

    Drawn on the CPU, so that it is the same on every device.
    """
    shape = (1, channels, height // VAE_FACTOR, width // VAE_FACTOR)
    noise = [torch.randn(shape, generator=generator) for generator in generators]
    return torch.cat(noise).to(device)


@torch.no_grad()
def decode_latents(vae: AutoencoderKL, latents: Tensor) -> list[Image.Image]:
    """Latents to RGB images, one by one, so that memory does not grow with the batch.

    Raises:
        FloatingPointError: If latents are not finite.
    """
    if not torch.isfinite(latents).all():
        raise FloatingPointError(
            "the latents are not finite; use float32 or bfloat16 if the dtype is float16"
        )
    processor = VaeImageProcessor()
    images: list[Image.Image] = []
    for one in latents:
        scaled = one[None] / vae.config["scaling_factor"]
        scaled = scaled.to(vae.device, vae.dtype)
        picture = vae.decode(scaled, return_dict=False)[0].float()
        images += processor.postprocess(picture.cpu(), output_type="pil")
    return images
