"""A tiny DynamicID with random weights, in the official file formats.

For tests and for trying the harness on a machine without the real files: `write_tiny_weights`
fills a weights folder that the real loaders read. Its images mean nothing.
"""

from pathlib import Path

import torch
from torch import nn

from idbench.methods.common.tiny_sd15 import (
    CLIP_WIDTH,
    WIDTH,
    write_tiny_clip,
    write_tiny_stable_diffusion,
)
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

LORA_RANK = 4


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
        unet = write_tiny_stable_diffusion(files.base)
        write_tiny_clip(files.clip_vision)
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
