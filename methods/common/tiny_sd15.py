"""Tiny networks of Stable Diffusion 1.5 and CLIP with random weights, in the official formats.

For tests and for trying a method on a machine without the real files. Images mean nothing.
Weights are drawn from torch's global generator; seed it around the calls.
"""

from pathlib import Path

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from idbench.methods.common.sd15 import ddim_scheduler

WIDTH = 64  # of text tokens
CLIP_WIDTH = 32


def tiny_unet(block_out_channels: tuple[int, int] = (16, 32)) -> UNet2DConditionModel:
    """Two levels with one attention block each; latents of any size that is a multiple of 2."""
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=block_out_channels,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=8,
    )


def tiny_vae() -> AutoencoderKL:
    """Four narrow levels, so that an image is 8 times its latents, as in Stable Diffusion."""
    return AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=64,
    )


def write_tiny_stable_diffusion(
    folder: Path, block_out_channels: tuple[int, int] = (16, 32)
) -> UNet2DConditionModel:
    """Writes a folder in the layout of diffusers; returns its UNet."""
    unet = tiny_unet(block_out_channels)
    unet.save_pretrained(folder / "unet")
    tiny_vae().save_pretrained(folder / "vae")
    _write_text_encoder(folder)
    ddim_scheduler().save_pretrained(folder / "scheduler")
    return unet


def _write_text_encoder(base: Path) -> None:
    """A byte-level vocabulary without merges, and a two-layer encoder of it."""
    folder = base / "tokenizer"
    folder.mkdir(parents=True, exist_ok=True)
    symbols = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256))]
    words = [*symbols, *(f"{symbol}</w>" for symbol in symbols)]
    vocabulary = {word: index for index, word in enumerate(words)}
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[special] = len(vocabulary)
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)
    tokenizer.save_pretrained(folder)
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=0,
        eos_token_id=2,  # as in Stable Diffusion 1.5: the pooled state is that of the highest id
    )
    CLIPTextModel(config).save_pretrained(base / "text_encoder")


def write_tiny_clip(folder: Path) -> None:
    """A whole CLIP, text half included, as the ViT-H repository has it; 28 pixels, 4 patches."""
    small = {"intermediate_size": CLIP_WIDTH, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={
            "hidden_size": CLIP_WIDTH,
            "vocab_size": 64,
            "bos_token_id": 0,
            "eos_token_id": 1,
            **small,
        },
        vision_config={"hidden_size": CLIP_WIDTH, "image_size": 28, "patch_size": 14, **small},
        projection_dim=CLIP_WIDTH,
    )
    CLIPModel(config).save_pretrained(folder)
