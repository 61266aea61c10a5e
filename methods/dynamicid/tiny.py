"""A tiny DynamicID with random weights, in the official file formats.

For tests and for trying the harness on a machine without the real files: `write_tiny_weights`
fills a weights folder that the real loaders read. Its images mean nothing.
"""

from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from idbench.methods.common.sd15 import ddim_scheduler
from idbench.methods.dynamicid.expression import ResEmoteNet, ResEmoteNetConfig
from idbench.methods.dynamicid.injection import install_saa
from idbench.methods.dynamicid.keypoints import KeypointEncoder
from idbench.methods.dynamicid.projection import FaceProjection, FaceProjectionConfig
from idbench.methods.dynamicid.reconfigurator import (
    IdentityMotionReconfigurator,
    ReconfiguratorConfig,
)
from idbench.methods.dynamicid.tiny_faces import write_tiny_face_models
from idbench.methods.dynamicid.weights import DynamicIDFiles

WIDTH = 64  # of text and identity tokens; the face projection needs a multiple of 64
CLIP_WIDTH = 32
LORA_RANK = 4


def tiny_unet() -> UNet2DConditionModel:
    """Two levels with one attention block each; latents of any size that is a multiple of 2."""
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
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


def tiny_projection() -> FaceProjection:
    """For ArcFace vectors of 512 numbers and the tiny CLIP."""
    return FaceProjection(
        FaceProjectionConfig(
            cross_attention_dim=WIDTH, clip_embeddings_dim=CLIP_WIDTH, num_tokens=4, depth=1
        )
    )


def tiny_reconfigurator() -> IdentityMotionReconfigurator:
    """One head, one layer."""
    return IdentityMotionReconfigurator(
        ReconfiguratorConfig(
            embedding_dim=WIDTH, text_dim=WIDTH, dim=64, heads=1, feed_forward_multiplier=2
        )
    )


def write_tiny_weights(folder: Path, seed: int = 0) -> DynamicIDFiles:
    """Writes every file that DynamicID reads; the same bytes for the same seed and versions."""
    files = DynamicIDFiles.in_folder(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = tiny_unet()
        unet.save_pretrained(files.base / "unet")
        tiny_vae().save_pretrained(files.base / "vae")
        _write_text_encoder(files.base)
        ddim_scheduler().save_pretrained(files.base / "scheduler")
        _write_clip(files.clip_vision)
        write_tiny_face_models(files.face_models, seed)
        processors = install_saa(unet, rank=LORA_RANK)
        _randomise(processors)
        _save(
            files.saa,
            {
                "proj_module": tiny_projection().state_dict(),
                "SAA_module": processors.state_dict(),
            },
        )
        _save(files.imr, tiny_reconfigurator().state_dict())
        _save(files.keypoints, KeypointEncoder(WIDTH, width_divisor=8).state_dict())
        expression = ResEmoteNet(
            ResEmoteNetConfig(
                convolutions=(4, 4, 8), squeeze=2, residuals=(8, 8, 8), linears=(8, 8, 8, 7)
            )
        )
        _save(files.expression, {"model_state_dict": expression.state_dict()})
    return files


def _save(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)


def _randomise(module: nn.Module) -> None:
    """Gives parameters that start at 0 (the second LoRA matrices) something to do."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)


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


def _write_clip(folder: Path) -> None:
    """A whole CLIP, text half included, as the ViT-H repository has it."""
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
