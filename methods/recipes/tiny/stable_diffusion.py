"""Stable Diffusion 1.5, its InstructPix2Pix, and SDXL, each as a folder of diffusers."""

from pathlib import Path
from typing import Any

from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import nn
from transformers import CLIPImageProcessor

from idbench.methods.recipes.tiny.texts import clip_text_encoder, clip_tokenizer

WIDTH = 64  # of text tokens, both encoders of SDXL together
CLIP_SIDE = 28
SCHEDULE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
}


def vae() -> Any:
    """Four narrow levels, so that an image is 8 times its latents."""
    return AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=64,
    )


def unet(**options: Any) -> Any:
    """Two levels, attention on the lower one alone, where there are few pixels."""
    sizes: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 2,
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**{**sizes, **options})


def write_sd15(folder: Path) -> Any:
    """Returns the UNet."""
    return _write(StableDiffusionPipeline, folder, unet())


def write_instruct_pix2pix(folder: Path) -> Any:
    """Its UNet reads the source's latents beside the noisy ones. Returns the UNet."""
    return _write(StableDiffusionInstructPix2PixPipeline, folder, unet(in_channels=8))


def _write(pipeline: Any, folder: Path, network: Any) -> Any:
    tokenizer = clip_tokenizer()
    pipe = pipeline(
        vae=vae(),
        text_encoder=clip_text_encoder(tokenizer, WIDTH),
        tokenizer=tokenizer,
        unet=network,
        scheduler=PNDMScheduler(skip_prk_steps=True, set_alpha_to_one=False, **SCHEDULE),
        safety_checker=None,
        feature_extractor=CLIPImageProcessor(
            size={"shortest_edge": CLIP_SIDE}, crop_size={"height": CLIP_SIDE, "width": CLIP_SIDE}
        ),
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder)
    return network


def write_sdxl(folder: Path) -> Any:
    """Returns the UNet."""
    tokenizer = clip_tokenizer()
    network = unet(
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + WIDTH // 2,
        use_linear_projection=True,
        transformer_layers_per_block=(1, 2),
    )
    pipe = StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=clip_text_encoder(tokenizer, WIDTH // 2),
        text_encoder_2=clip_text_encoder(tokenizer, WIDTH // 2, projection=True),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=network,
        scheduler=EulerDiscreteScheduler(timestep_spacing="leading", **SCHEDULE),
        add_watermarker=False,
    )
    pipe.save_pretrained(folder)
    return network


def write_controlnet(folder: Path, network: Any) -> None:
    """A ControlNet for a UNet; its last layers, which start at zero in training, are random."""
    control = ControlNetModel.from_unet(network, conditioning_channels=3)
    lasts = [*control.controlnet_down_blocks, control.controlnet_mid_block]
    for last in [*lasts, control.controlnet_cond_embedding.conv_out]:
        nn.init.normal_(last.weight, std=0.1)
    control.save_pretrained(folder)
