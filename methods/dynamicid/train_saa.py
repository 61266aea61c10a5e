"""`idbench train dynamicid-saa`: the anchoring stage, from pictures and captions to SAA weights.

A configuration (all settings: `AnchoringConfig` and `TrainingConfig`):

    output: runs/saa
    data: laion-face/captions.json     # [{"image_file": ..., "text": ...}, ...]
    weights: weights                   # stable-diffusion-v1-5/, CLIP-ViT-H-.../, buffalo_l/
    steps: 60000
    batch_size: 16
    micro_batch_size: 4
    mixed_precision: bf16

Several GPUs: `accelerate launch -m idbench train dynamicid-saa CONFIG.yaml`. The same command after
an interruption goes on from the last checkpoint, bit for bit on the same hardware.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from idbench.methods.common.files import sha256_of_file
from idbench.methods.common.pretrained import load_stable_diffusion
from idbench.methods.common.prompt_encoder import PromptEncoder
from idbench.methods.common.training import (
    Report,
    Trainee,
    frozen_dtype,
    indices_of_step,
    make_accelerator,
    read_config,
    run,
    share_of,
)
from idbench.methods.dynamicid.anchoring import AnchoringConfig, AnchoringModel, make_batch
from idbench.methods.dynamicid.anchoring_data import Caption, FeatureCache, read_captions
from idbench.methods.dynamicid.checkpoints import build_projection, build_saa, read_saa, save_saa
from idbench.methods.dynamicid.config import DynamicIDConfig
from idbench.methods.dynamicid.encoder import FaceEncoder
from idbench.methods.dynamicid.faces import FaceAnalyser
from idbench.methods.dynamicid.injection import install_saa
from idbench.methods.dynamicid.loading import load_clip_vision
from idbench.methods.dynamicid.losses import noise_prediction_loss
from idbench.methods.dynamicid.projection import FaceProjection, FaceProjectionConfig
from idbench.methods.dynamicid.weights import DynamicIDFiles

RESULT = "SAA.safetensors"


def train(config_path: Path, report: Report) -> Path:
    """Runs the stage, or goes on with it, and returns the file with the weights.

    Raises:
        ValueError: If a setting, the data or a checkpoint is wrong.
        MissingWeightsError: If a file is absent.
    """
    config = read_config(config_path, AnchoringConfig)
    accelerator = make_accelerator(config)
    files = DynamicIDFiles.in_folder(
        config.weights,
        base=config.base,
        clip_vision=config.clip_vision,
        face_models=config.face_models,
    )
    files.require("base", "clip_vision", "face_models")
    tokenizer, text_encoder, vae, unet = load_stable_diffusion(
        files.base, accelerator.device, frozen_dtype(config)
    )
    captions = read_captions(config.data, config.images)
    cache = FeatureCache(config.cache or config.output / "features", _made_with(files, config))
    with accelerator.main_process_first():
        clip_width = _complete(cache, captions, files, vae, accelerator, config)
    usable, nobody = cache.usable(captions), cache.nobody()
    scaling_factor = float(vae.config["scaling_factor"])
    del vae
    model = make_model(unet, clip_width, config).to(accelerator.device)
    prompts = PromptEncoder(tokenizer, text_encoder)
    optimizer = torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
    )
    prepared, optimizer = accelerator.prepare(model, optimizer)

    def backward(step: int) -> Mapping[str, Tensor]:
        indices = indices_of_step(config.seed, step, config.batch_size, len(usable))
        mine = share_of(accelerator, indices)
        size = config.micro_batch_size or len(mine)
        total = torch.zeros((), device=accelerator.device)
        for start in range(0, len(mine), size):
            part = mine[start : start + size]
            samples = [(place, cache.load(usable[index])) for place, index in part]
            batch = make_batch(samples, step, config, nobody, scaling_factor)
            batch = batch.to(accelerator.device)
            last = start + size >= len(mine)
            with nullcontext() if last else accelerator.no_sync(prepared):
                predicted = prepared(
                    batch.noisy_latents,
                    batch.timesteps,
                    prompts.tokens(batch.prompts),
                    batch.id_embeds,
                    batch.clip_hidden,
                )
                loss = noise_prediction_loss(predicted, batch.noise) * len(part) / len(mine)
                accelerator.backward(loss)
            total += loss.detach()
        return {"loss": total}

    run(config, accelerator, Trainee(module=model, optimizer=optimizer, backward=backward), report)
    result = config.output / RESULT
    if accelerator.is_main_process:
        metadata = {"stage": "anchoring", **config.recorded()}
        save_saa(result, model.projection, model.processors[0], metadata)
    return result


def make_model(
    unet: UNet2DConditionModel, clip_width: int, config: AnchoringConfig
) -> AnchoringModel:
    """The model with fresh weights drawn from the seed, or with those of `initial`."""
    if config.initial is not None:
        states = read_saa(config.initial)
        projection = build_projection(states.projection, config.initial)
        processors = build_saa(unet, states.attention, config.initial)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            projection = FaceProjection(
                FaceProjectionConfig(
                    cross_attention_dim=unet.config["cross_attention_dim"],
                    clip_embeddings_dim=clip_width,
                )
            )
            processors = install_saa(unet, rank=config.lora_rank)
    if config.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    return AnchoringModel(unet, processors, projection, config.gate_threshold).train()


def _made_with(files: DynamicIDFiles, config: AnchoringConfig) -> dict[str, str]:
    """What the cached features depend on."""
    read = files.digested(["clip_vision", "face_models"])
    read |= {
        name: path
        for name, path in files.digested(["base"]).items()
        if name.startswith("base/vae/")
    }
    settings = {
        "resolution": str(config.resolution),
        "face_crop_factor": str(config.face_crop_factor),
        "dtype": str(frozen_dtype(config)),
    }
    return {name: sha256_of_file(path) for name, path in read.items()} | settings


def _complete(
    cache: FeatureCache,
    captions: list[Caption],
    files: DynamicIDFiles,
    vae: AutoencoderKL,
    accelerator: Accelerator,
    config: AnchoringConfig,
) -> int:
    """Computes the features that are missing; returns the width of CLIP's tokens."""
    device = accelerator.device
    clip_vision = load_clip_vision(files.clip_vision, device, vae.dtype)
    width = int(clip_vision.config.hidden_size)
    encoder = FaceEncoder(
        FaceAnalyser(files.face_models, device=str(device)),
        clip_vision,
        FaceProjection(FaceProjectionConfig(clip_embeddings_dim=width, depth=1)),
        DynamicIDConfig(face_crop_factor=config.face_crop_factor),
    )
    cache.build(captions, encoder, vae, config.resolution)
    return width
