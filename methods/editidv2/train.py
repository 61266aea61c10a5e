"""`idbench train editidv2`: data lubrication, from photo pairs to cross-attention weights."""

import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, FluxPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from idbench.methods.common.files import write_with
from idbench.methods.common.flux_backbone import FluxBackbone
from idbench.methods.common.locations import digest
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
from idbench.methods.editidv2.arcface import ArcFace
from idbench.methods.editidv2.data import read_pairs
from idbench.methods.editidv2.decomposition import QueryDecomposition
from idbench.methods.editidv2.face_embedding import LatentFaces
from idbench.methods.editidv2.features import FeatureCache
from idbench.methods.editidv2.losses import learning_rate_factor
from idbench.methods.editidv2.model import TrainableFlux
from idbench.methods.editidv2.objective import Drawer, IdentityTerm, losses_of
from idbench.methods.editidv2.training_config import EditIDv2TrainingConfig
from idbench.methods.pulid.config import PuLIDConfig
from idbench.methods.pulid.extraction import IDExtractor
from idbench.methods.pulid.injection import IDInjector
from idbench.methods.pulid.pipeline import load_extractor
from idbench.methods.pulid.weights import load_pulid

METADATA_KEY = "idbench.training"


def train(config_path: Path, report: Report) -> Path:
    """Trains, or goes on where `output` left off, and returns the file with the weights.

    Raises:
        ValueError: If a setting, the data or a checkpoint is wrong.
        FileNotFoundError: If a file is absent.
    """
    config = read_config(config_path, EditIDv2TrainingConfig)
    folder = config_path.parent
    config = replace(
        config,
        data=tuple(folder / path for path in config.data),
        images=tuple(folder / path for path in config.images),
    )
    return fit(config, make_accelerator(config), report)


def fit(config: EditIDv2TrainingConfig, accelerator: Accelerator, report: Report) -> Path:
    """Does what `train` says, for settings that were read."""
    dtype = frozen_dtype(config)
    settings = config.networks(str(accelerator.device), str(dtype).removeprefix("torch."))
    pairs = read_pairs(config.data, config.images)
    weights = load_pulid(settings.files()["pulid"])
    if weights.encoder is None:
        raise ValueError(f"{settings.files()['pulid']} has no ID encoder to train with")
    backbone = FluxBackbone.load(settings)
    if dtype != torch.float32:
        backbone.pipe.vae = AutoencoderKL.from_pretrained(
            settings.files()["model"] / "vae", dtype=torch.float32, local_files_only=True
        )
    backbone.place()
    extractor = load_extractor(settings)
    cache = FeatureCache(config.cache or config.output / "features", _made_with(settings))
    with accelerator.main_process_first():
        if cache.missing(pairs) or not cache.empty_text().is_file():
            encoder = weights.encoder.to(backbone.device, dtype).requires_grad_(False)
            cache.complete(pairs, backbone, extractor, encoder.eval(), config.size)
    usable = cache.usable(pairs)
    # their features are cached; without them the transformer has the device to itself
    backbone.pipe.text_encoder = backbone.pipe.text_encoder_2 = None
    extractor.tower.to("cpu")

    injector = IDInjector(weights.ca, QueryDecomposition() if config.alpha != "off" else None)
    model = TrainableFlux(backbone.transformer, injector.float()).to(accelerator.device)
    if config.gradient_checkpointing:
        backbone.transformer.enable_gradient_checkpointing()
    model.train()
    optimizer = torch.optim.AdamW(
        model.injector.parameters(),
        lr=config.learning_rate,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=config.weight_decay,
    )
    prepared, optimizer = accelerator.prepare(model, optimizer)
    drawer = Drawer(
        config=config,
        empty_text=cache.load_empty_text(),
        scaling_factor=backbone.pipe.vae.config.scaling_factor,
        shift_factor=backbone.pipe.vae.config.shift_factor,
        device=accelerator.device,
        dtype=dtype,
    )
    identity_term = _identity_term(config, settings, backbone, extractor)
    side = config.size // 16
    image_ids = FluxPipeline._prepare_latent_image_ids(1, side, side, accelerator.device, dtype)
    factor = learning_rate_factor(config.lr_schedule, config.warmup_steps, config.steps)

    def backward(step: int) -> Mapping[str, Tensor]:
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * factor(step)
        mine = share_of(
            accelerator, indices_of_step(config.seed, step, config.batch_size, len(usable))
        )
        sums: dict[str, Tensor] = {}
        for start in range(0, len(mine), config.micro_batch_size):
            part = mine[start : start + config.micro_batch_size]
            batch = drawer.draw(step, [(place, cache.load(usable[i])) for place, i in part])
            last = start + config.micro_batch_size >= len(mine)
            with nullcontext() if last else accelerator.no_sync(prepared):
                losses = losses_of(prepared, batch, image_ids, config, identity_term)
                share = len(part) / len(mine)
                accelerator.backward(losses.total(config.strength) * share)
            values = {
                "diffusion": losses.diffusion,
                "identity": losses.identity,
                "faces": losses.faces,
            }
            for name, value in values.items():
                if value is not None:
                    sums[name] = sums.get(name, 0) + value.detach() * share
        return sums

    def after(steps: int) -> Mapping[str, float]:
        if accelerator.is_main_process and steps % config.write_every == 0:
            write_weights(config, settings, model, steps, f"checkpoint-{steps}.safetensors")
            _remove_old(config)
        return {}

    trainee = Trainee(module=model, optimizer=optimizer, backward=backward, after=after)
    run(config, accelerator, trainee, report)
    name = f"final-checkpoint-{config.steps}.safetensors"
    if accelerator.is_main_process:
        write_weights(config, settings, model, config.steps, name)
    return config.output / name


def write_weights(
    config: EditIDv2TrainingConfig,
    settings: PuLIDConfig,
    model: TrainableFlux,
    steps: int,
    name: str,
) -> None:
    """Writes the PuLID layout: the encoder of the start file, the trained modules, its dtype."""
    source = settings.files()["pulid"]
    tensors = load_file(source)
    for key, value in model.injector.state_dict().items():
        tensors[key] = value.detach().to("cpu", tensors[key].dtype).contiguous()
    with safe_open(source, "pt") as file:
        metadata = dict(file.metadata() or {})
    recorded = {**config.recorded(), "trained_steps": str(steps), "start_sha256": digest(source)}
    metadata |= {f"{METADATA_KEY}.{key}": value for key, value in sorted(recorded.items())}
    write_with(config.output / name, lambda path: save_file(tensors, path, metadata))


def _remove_old(config: EditIDv2TrainingConfig) -> None:
    found = {
        int(match.group(1)): path
        for path in config.output.glob("checkpoint-*.safetensors")
        if (match := re.fullmatch(r"checkpoint-(\d+)\.safetensors", path.name))
    }
    for steps in sorted(found)[: -config.keep_written]:
        found[steps].unlink()


def _made_with(settings: PuLIDConfig) -> dict[str, str]:
    """What the cached features depend on besides the pairs."""
    files = dict(settings.files())
    model = files.pop("model")
    files.pop("transformer", None)
    parts = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
    files |= {part: model / part for part in parts}
    made_with = {name: digest(path) for name, path in files.items()}
    return made_with | {
        "size": str(settings.width),
        "max_sequence_length": str(settings.max_sequence_length),
        "dtype": settings.dtype,
    }


def _identity_term(
    config: EditIDv2TrainingConfig,
    settings: PuLIDConfig,
    backbone: FluxBackbone,
    extractor: IDExtractor,
) -> IdentityTerm | None:
    if config.id_loss == "off" or config.strength == 0:
        return None
    vae = backbone.pipe.vae.requires_grad_(False)

    def decode(latents: Tensor) -> Tensor:
        image: Tensor = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
        return image

    faces = None
    if config.id_loss == "differentiable":
        arcface = ArcFace(settings.files()["glintr100"]).to(backbone.device)
        faces = LatentFaces(
            decode,
            extractor.recogniser,
            arcface.requires_grad_(False),
            scale=backbone.pipe.vae_scale_factor,
        )
    return IdentityTerm(
        config=config,
        unpack=lambda clean: backbone.unpack(clean, config.size, config.size),
        decode=decode,
        extractor=extractor,
        faces=faces,
    )
