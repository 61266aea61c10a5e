"""`idbench train flexip`: shards and frozen networks to an adapter."""

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.nn.functional import mse_loss

from idbench.methods.common.pretrained import load_stable_diffusion
from idbench.methods.common.prompt_encoder import PromptEncoder
from idbench.methods.common.sd15 import ddim_scheduler
from idbench.methods.common.training import (
    Report,
    Stateful,
    Trainee,
    frozen_dtype,
    make_accelerator,
    read_config,
    run,
)
from idbench.methods.flexip.adapter import FlexIPAdapter, adapter_for
from idbench.methods.flexip.checkpoints import load_adapter, save_adapter
from idbench.methods.flexip.feed import Feed
from idbench.methods.flexip.gate import TrainingGate
from idbench.methods.flexip.loading import load_references
from idbench.methods.flexip.model import TrainableFlexIP, trained_parameters
from idbench.methods.flexip.references import ReferenceEncoder
from idbench.methods.flexip.samples import Batch
from idbench.methods.flexip.training import FlexIPTrainingConfig
from idbench.methods.flexip.weights import FlexIPFiles

log = logging.getLogger(__name__)

RESULT = "adapter"


class Validate(Protocol):
    """Makes images with a method over a suite and scores them; the harness has one."""

    def __call__(
        self,
        *,
        method: str,
        args: Mapping[str, object],
        suite: str,
        metrics: Sequence[str],
        workspace: Path,
        limit: int | None,
        device: str,
        dtype: str,
    ) -> Mapping[str, float]:
        """Mean of every column of the metrics, by its name."""
        ...


def train(config_path: Path, report: Report, validate: Validate | None = None) -> Path:
    """Trains, or goes on with it, and returns the adapter's folder.

    Raises:
        ValueError: If a setting, the data or a checkpoint is wrong.
        MissingWeightsError: If a folder is absent.
    """
    config = read_config(config_path, FlexIPTrainingConfig)
    if config.validation is not None and validate is None:
        raise ValueError(
            f"{config_path}: validation needs the harness; run `idbench train flexip`, or leave it "
            "out"
        )
    accelerator = make_accelerator(config)
    files = FlexIPFiles.in_folder(
        config.weights, base=config.base, clip=config.clip, dino=config.dino
    )
    files.require("base", "clip")
    feed = Feed(config, accelerator)
    parts = load_parts(config, files, accelerator)
    model = parts.model
    optimizer = torch.optim.AdamW(
        trained_parameters(model), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    prepared, optimizer = accelerator.prepare(model, optimizer)
    others: dict[str, Stateful] = {"data_order": feed.order}
    ema = None
    if config.ema_decay is not None:
        ema = EMAModel(model.adapter.parameters(), decay=config.ema_decay)
        others["ema"] = ema

    def backward(step: int) -> Mapping[str, Tensor]:
        return backward_of_step(step, feed, parts, prepared, accelerator)

    def after(step: int) -> Mapping[str, float]:
        if ema is not None:
            ema.to(accelerator.device)
            ema.step(model.adapter.parameters())
        due = config.validation is not None and step % config.validation.every == 0
        if not due or validate is None or not accelerator.is_main_process:
            return {}
        with _averaged(ema, model.adapter):
            return validated(step, config, model, files, validate, accelerator)

    run(
        config,
        accelerator,
        Trainee(module=model, optimizer=optimizer, backward=backward, after=after, others=others),
        report,
    )
    result = config.output / RESULT
    if accelerator.is_main_process:
        with _averaged(ema, model.adapter):
            save_adapter(model.adapter, result)
    return result


class Parts:
    """The networks of a training, all but the adapter frozen."""

    def __init__(
        self,
        model: TrainableFlexIP,
        references: ReferenceEncoder,
        prompts: PromptEncoder,
        vae: AutoencoderKL,
    ) -> None:
        """Keeps them, and makes the noise schedule of Stable Diffusion 1.5."""
        self.model, self.references, self.prompts, self.vae = model, references, prompts, vae
        self.schedule = ddim_scheduler()

    @torch.no_grad()
    def latents(self, batch: Batch) -> Tensor:
        """A draw from the VAE's posterior of the targets, scaled, float32."""
        posterior = self.vae.encode(batch.target.to(self.vae.dtype)).latent_dist
        drawn = posterior.mean.float() + posterior.std.float() * batch.posterior
        scaled: Tensor = drawn * self.vae.config["scaling_factor"]
        return scaled


def load_parts(config: FlexIPTrainingConfig, files: FlexIPFiles, accelerator: Accelerator) -> Parts:
    """Reads the frozen networks and makes, or reads, the adapter.

    Raises:
        ValueError: If a file does not hold what it must, or networks do not belong together.
        MissingWeightsError: If DINOv2 is needed and absent.
    """
    device, dtype = accelerator.device, frozen_dtype(config)
    tokenizer, text_encoder, vae, unet = load_stable_diffusion(files.base, device, dtype)
    settings = adapter_settings(config)
    if settings["retrieval"] == "dino":
        files.require("dino")
    references = load_references(settings, files.clip, files.dino, device=device, dtype=dtype)
    adapter = make_adapter(unet, references, config)
    if config.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    alpha, beta = (0.5, 0.5) if config.static_gate else (config.alpha, config.beta)
    gate = TrainingGate(alpha, beta, learn=config.learn_gate)
    model = TrainableFlexIP(unet, adapter.to(device), gate.to(device))
    # Evaluation mode: the base model stays what it is, and the adapter has no dropout.
    return Parts(model.eval(), references, PromptEncoder(tokenizer, text_encoder), vae)


def adapter_settings(config: FlexIPTrainingConfig) -> dict[str, Any]:
    """All arguments of `FlexIPAdapter`, those of `architecture` in place of its defaults.

    Raises:
        ValueError: If `architecture` has an unknown one.
    """
    parameters = inspect.signature(FlexIPAdapter.__init__).parameters.values()
    known = {entry.name: entry.default for entry in parameters if entry.name != "self"}
    if unknown := sorted(config.architecture.keys() - known.keys()):
        raise ValueError(
            f"architecture has no {', '.join(unknown)}; it has {', '.join(sorted(known))}"
        )
    return {**known, **config.architecture}


def make_adapter(
    unet: UNet2DConditionModel, references: ReferenceEncoder, config: FlexIPTrainingConfig
) -> FlexIPAdapter:
    """The adapter to train: fresh weights drawn from the seed, or those of `initial`.

    Raises:
        ValueError: If those of `initial` are not of this architecture.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        adapter = adapter_for(
            unet,
            **config.architecture,
            class_dim=references.class_dim,
            patch_dim=references.patch_dim,
            base=config.base_name,
            clip=config.clip_name,
            dino=config.dino_name,
        )
    if config.initial is None:
        return adapter
    initial = load_adapter(config.initial)
    differing = {
        name: (value, adapter.config[name])
        for name, value in initial.config.items()
        if not name.startswith("_") and adapter.config[name] != value
    }
    if differing:
        name, (there, here) = min(differing.items())
        raise ValueError(
            f"{config.initial} has {name} {there!r}, and this training {here!r}; set it in "
            "architecture, or start from another adapter"
        )
    return initial


def backward_of_step(
    step: int, feed: Feed, parts: Parts, prepared: Any, accelerator: Accelerator
) -> dict[str, Tensor]:
    """Accumulates the gradients of a step; returns its mean losses over all processes.

    `loss` is over all samples, `loss_invariant` and `loss_variant` over images and over video and
    multi-view samples, where there are any.
    """
    device, count = accelerator.device, feed.per_step
    sums = torch.zeros(2, 2, device=device)  # invariant, variant: sum of losses, samples
    for number, batch in enumerate(feed.batches(step)):
        batch = batch.to(device)
        last = number + 1 == count
        with nullcontext() if last else accelerator.no_sync(prepared):
            losses = sample_losses(batch, parts, prepared)
            accelerator.backward(losses.mean() / count)
        index = batch.varied.long()
        sums[:, 0].index_add_(0, index, losses.detach())
        sums[:, 1].index_add_(0, index, torch.ones_like(losses))
    total = accelerator.reduce(sums, reduction="sum")
    values = {"loss": total[:, 0].sum() / total[:, 1].sum()}
    for name, (loss, samples) in zip(("loss_invariant", "loss_variant"), total, strict=True):
        if samples > 0:
            values[name] = loss / samples
    if parts.model.gate.logits is not None:
        values["alpha"], values["beta"] = parts.model.gate.logits.detach().sigmoid()
    return values


def sample_losses(batch: Batch, parts: Parts, prepared: Any) -> Tensor:
    """Mean squared error of the predicted noise of each sample, (batch,) in float32."""
    latents = parts.latents(batch)
    features = parts.references.encode(batch.clip_pixels, batch.dino_pixels)
    predicted = prepared(
        parts.schedule.add_noise(latents, batch.noise, batch.timesteps),
        batch.timesteps,
        parts.prompts.tokens(batch.captions),
        features.dropped(batch.drop_image),
        batch.varied,
        batch.jitter,
    )
    errors = mse_loss(predicted.float(), batch.noise, reduction="none")
    return errors.flatten(1).mean(dim=1)


def validated(
    step: int,
    config: FlexIPTrainingConfig,
    model: TrainableFlexIP,
    files: FlexIPFiles,
    validate: Validate,
    accelerator: Accelerator,
) -> dict[str, float]:
    """Scores of the adapter as it is after `step`, by column and gamma.

    The adapter stays in `output/validation/step-<step>/adapter`, the images beside it.
    """
    if config.validation is None:
        return {}
    folder = config.output / "validation" / f"step-{step:08d}"
    save_adapter(model.adapter, folder / RESULT)
    places = {"adapter": folder / RESULT, "base": files.base, "clip": files.clip}
    names = {name: getattr(config, name) for name in ("base_name", "clip_name", "dino_name")}
    values: dict[str, float] = {}
    for gamma in config.validation.gammas:
        found = validate(
            method="flexip",
            args={
                **{key: str(place) for key, place in {**places, "dino": files.dino}.items()},
                **names,
                "gamma": gamma,
                **config.validation.settings,
            },
            suite=config.validation.suite,
            metrics=config.validation.metrics,
            workspace=folder / "runs",
            limit=config.validation.limit,
            device=str(accelerator.device),
            dtype={"no": "float32", "bf16": "bfloat16", "fp16": "float16"}[config.mixed_precision],
        )
        values |= {f"{column} gamma={gamma:g}": value for column, value in found.items()}
    return values


@contextmanager
def _averaged(ema: EMAModel | None, adapter: FlexIPAdapter) -> Iterator[None]:
    """The adapter with its averaged weights, if there are any, and with its own again after."""
    if ema is None:
        yield
        return
    ema.store(adapter.parameters())
    ema.copy_to(adapter.parameters())
    try:
        yield
    finally:
        ema.restore(adapter.parameters())
