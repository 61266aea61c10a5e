"""Files to networks: the pipeline of DynamicID from a folder of official checkpoints."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModel
from transformers.utils import logging

from idbench.methods.common.state_dicts import describe_keys
from idbench.methods.dynamicid.checkpoints import (
    build_expression_network,
    build_keypoint_encoder,
    build_projection,
    build_reconfigurator,
    build_saa,
    read_saa,
    read_state_dict,
)
from idbench.methods.dynamicid.config import DynamicIDConfig
from idbench.methods.dynamicid.encoder import FaceEncoder
from idbench.methods.dynamicid.expression import ExpressionClassifier
from idbench.methods.dynamicid.faces import FaceAnalyser
from idbench.methods.dynamicid.identity import Editing, IdentityEncoder
from idbench.methods.dynamicid.injection import merge_lora
from idbench.methods.dynamicid.pipeline import DynamicIDPipeline
from idbench.methods.dynamicid.projection import FaceProjectionConfig
from idbench.methods.dynamicid.text import PromptEncoder
from idbench.methods.dynamicid.weights import DynamicIDFiles


def needed_files(config: DynamicIDConfig) -> tuple[str, ...]:
    """The names in `DynamicIDFiles` that a pipeline with these settings reads."""
    keys = ["base", "clip_vision", "face_models", "saa"]
    if config.use_imr:
        keys += ["imr", "keypoints"]
        if config.source_expression == "classify":
            keys.append("expression")
    return tuple(keys)


def load_base(
    folder: Path, device: torch.device | str, dtype: torch.dtype
) -> tuple[CLIPTokenizer, CLIPTextModel, AutoencoderKL, UNet2DConditionModel]:
    """Tokenizer, text encoder, VAE and UNet of Stable Diffusion 1.5 in the layout of diffusers.

    Raises:
        OSError: If the folder lacks a file.
        ValueError: If the text encoder's file has other keys than it must have.
    """
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    text_encoder = _from_transformers(CLIPTextModel, folder / "text_encoder")
    vae = AutoencoderKL.from_pretrained(
        folder / "vae", local_files_only=True, use_safetensors=True, torch_dtype=dtype
    )
    unet = UNet2DConditionModel.from_pretrained(
        folder / "unet", local_files_only=True, use_safetensors=True, torch_dtype=dtype
    )
    for module in (text_encoder, vae, unet):
        module.requires_grad_(False).train(False).to(device)
    return tokenizer, text_encoder.to(dtype), vae, unet


def load_clip_vision(
    folder: Path, device: torch.device | str, dtype: torch.dtype
) -> CLIPVisionModel:
    """The image half of CLIP from a transformers folder, which may hold the text half as well.

    Raises:
        OSError: If the folder lacks a file.
        ValueError: If the image half is incomplete.
    """
    model = _from_transformers(CLIPVisionModel, folder, ignored=NOT_VISION)
    return model.requires_grad_(False).train(False).to(device=device, dtype=dtype)


NOT_VISION = ("text_model.", "text_projection.", "visual_projection.", "logit_scale")
"""First parts of the keys of a whole CLIP that its image half does not have."""


def _from_transformers(model_class: type[Any], folder: Path, ignored: tuple[str, ...] = ()) -> Any:
    """Strict `from_pretrained`: keys that are missing, left over or misshapen are an error."""
    with _quiet_transformers():
        model, info = model_class.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    left_over = [key for key in info["unexpected_keys"] if not key.startswith(ignored)]
    # Old checkpoints store the position indices, which are no weights.
    left_over = [key for key in left_over if not key.endswith("position_ids")]
    if info["missing_keys"] or left_over:
        raise ValueError(
            f"{folder}: not a {model_class.__name__}; missing "
            f"{describe_keys(info['missing_keys']) or 'nothing'}, unknown "
            f"{describe_keys(left_over) or 'nothing'}"
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


def load_pipeline(
    files: DynamicIDFiles,
    config: DynamicIDConfig | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    merge: bool = True,
) -> DynamicIDPipeline:
    """Reads everything that the settings need.

    Args:
        files: Where the files are.
        config: Settings; the defaults if None.
        device: Of all networks.
        dtype: Of UNet, VAE and both CLIP halves. The face projection, the IMR, its key point
            encoder and ResEmoteNet stay in float32.
        merge: Add the LoRA to the UNet's weights, which makes them free at inference.

    Raises:
        MissingWeightsError: If a file is absent; the message says how to get it.
        ValueError: If one has other keys or shapes than it must have.
    """
    config = config or DynamicIDConfig()
    files.require(*needed_files(config))
    tokenizer, text_encoder, vae, unet = load_base(files.base, device, dtype)
    states = read_saa(files.saa)
    build_saa(unet, states.attention, files.saa)
    if merge:
        merge_lora(unet)
    projection = build_projection(states.projection, files.saa).to(device)
    clip_vision = load_clip_vision(files.clip_vision, device, dtype)
    _check_widths(projection.config, unet, clip_vision, files.saa)
    analyser = FaceAnalyser(
        files.face_models, device=str(device), legacy_rgb=config.legacy_rgb_embedding
    )
    face_encoder = FaceEncoder(analyser, clip_vision, projection.requires_grad_(False), config)
    prompts = PromptEncoder(tokenizer, text_encoder)
    editing = load_editing(files, config, device)
    return DynamicIDPipeline(
        identity=IdentityEncoder(face_encoder, prompts, editing, config),
        prompts=prompts,
        unet=unet.requires_grad_(False),
        vae=vae,
        config=config,
    )


def load_editing(
    files: DynamicIDFiles, config: DynamicIDConfig, device: torch.device | str
) -> Editing | None:
    """The networks that edit faces, or None where the settings do not need them."""
    needed = needed_files(config)
    if "imr" not in needed:
        return None
    imr = build_reconfigurator(read_state_dict(files.imr), files.imr).to(device)
    keypoints = build_keypoint_encoder(read_state_dict(files.keypoints), files.keypoints).to(device)
    expression = None
    if "expression" in needed:
        state = read_state_dict(files.expression, wrapper="model_state_dict")
        network = build_expression_network(state, files.expression).to(device)
        expression = ExpressionClassifier(network.requires_grad_(False))
    return Editing(
        reconfigurator=imr.requires_grad_(False),
        keypoint_encoder=keypoints.requires_grad_(False),
        expression=expression,
    )


def _check_widths(
    sizes: FaceProjectionConfig,
    unet: UNet2DConditionModel,
    clip_vision: CLIPVisionModel,
    source: Path,
) -> None:
    for name, have, need in (
        ("text tokens of the UNet", sizes.cross_attention_dim, unet.config["cross_attention_dim"]),
        ("CLIP tokens", sizes.clip_embeddings_dim, clip_vision.config.hidden_size),
    ):
        if have != need:
            raise ValueError(
                f"{source}: made for {name} of width {have}, but theirs is {need}; the files do "
                "not belong together"
            )
