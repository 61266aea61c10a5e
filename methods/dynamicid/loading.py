"""Files to networks: the pipeline of DynamicID from a folder of official checkpoints."""

from pathlib import Path

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPVisionModel

from idbench.methods.common.pretrained import (
    NOT_VISION,
    from_transformers,
    load_stable_diffusion,
)
from idbench.methods.common.prompt_encoder import PromptEncoder
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
from idbench.methods.dynamicid.weights import DynamicIDFiles


def needed_files(config: DynamicIDConfig) -> tuple[str, ...]:
    """The names in `DynamicIDFiles` that a pipeline with these settings reads."""
    keys = ["base", "clip_vision", "face_models", "saa"]
    if config.use_imr:
        keys += ["imr", "keypoints"]
        if config.source_expression == "classify":
            keys.append("expression")
    return tuple(keys)


def load_clip_vision(
    folder: Path, device: torch.device | str, dtype: torch.dtype
) -> CLIPVisionModel:
    """The image half of CLIP from a transformers folder, which may hold the text half as well.

    Raises:
        OSError: If the folder lacks a file.
        ValueError: If the image half is incomplete.
    """
    model = from_transformers(CLIPVisionModel, folder, (*NOT_VISION, "visual_projection."))
    return model.requires_grad_(False).train(False).to(device=device, dtype=dtype)


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
    tokenizer, text_encoder, vae, unet = load_stable_diffusion(files.base, device, dtype)
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
