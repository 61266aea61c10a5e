"""The anchoring stage (section 3.1): its settings, its batches and what it trains."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from idbench.methods.common.sd15 import ddim_scheduler
from idbench.methods.common.training import normal, rng_of
from idbench.methods.dynamicid.anchoring_data import Sample, sample_latents
from idbench.methods.dynamicid.attention import LORA_RANK
from idbench.methods.dynamicid.control import SAAControl
from idbench.methods.dynamicid.projection import FaceProjection
from idbench.methods.dynamicid.training import TrainingConfig

NUM_TIMESTEPS = 1000


@dataclass(frozen=True, kw_only=True)
class AnchoringConfig(TrainingConfig):
    """Settings of the stage besides those of `TrainingConfig`.

    Attributes:
        data: JSON list of {image_file, text}.
        images: Folder that picture names are relative to; the list's folder if None.
        weights: Folder with Stable Diffusion 1.5, CLIP-ViT-H and buffalo_l.
        base: As for the method, if not in `weights`.
        clip_vision: As `base`.
        face_models: As `base`.
        initial: SAA weights to start from, such as IP-Adapter-FaceID-Plus; fresh ones if None.
        cache: Folder of frozen features; `output/features` if None.
        lora_rank: Of fresh weights (official code: 128).
        resolution: Side of the targets in pixels (official code: 512).
        batch_size: Samples per step over all processes (section 4.1: 16; whether that is per GPU
            is not said).
        micro_batch_size: Samples per forward; None takes them all at once.
        drop_image: Share of samples that lose the face (official code: 0.05).
        drop_text: Share that lose the text (0.05).
        drop_both: Share that lose both (0.05).
        gate_threshold: As at inference.
        face_crop_factor: As at inference.
    """

    data: Path
    weights: Path
    images: Path | None = None
    base: Path | None = None
    clip_vision: Path | None = None
    face_models: Path | None = None
    initial: Path | None = None
    cache: Path | None = None
    lora_rank: int = LORA_RANK
    resolution: int = 512
    batch_size: int = 16
    micro_batch_size: int | None = None
    drop_image: float = 0.05
    drop_text: float = 0.05
    drop_both: float = 0.05
    gate_threshold: float = 0.3
    face_crop_factor: float = 1.6

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            ValueError: Naming the setting, its value and what is allowed.
        """
        super().__post_init__()
        if self.resolution < 64 or self.resolution % 64:
            raise ValueError(f"resolution must be a multiple of 64, got {self.resolution}")
        if self.batch_size < 1 or (self.micro_batch_size or 1) < 1:
            raise ValueError("batch_size and micro_batch_size must be at least 1")
        shares = (self.drop_image, self.drop_text, self.drop_both)
        if min(shares) < 0.0 or sum(shares) > 1.0:
            raise ValueError(f"the drop shares must be in [0, 1] and add up to at most 1: {shares}")


@dataclass(frozen=True, slots=True)
class Dropped:
    """What a sample loses for classifier-free guidance."""

    image: bool
    text: bool


def draw_dropped(draw: float, config: AnchoringConfig) -> Dropped:
    """What the uniform draw in [0, 1) means: image, text, both, or nothing, in this order."""
    image, text = config.drop_image, config.drop_image + config.drop_text
    both = text + config.drop_both
    if draw < image:
        return Dropped(image=True, text=False)
    if draw < text:
        return Dropped(image=False, text=True)
    return Dropped(image=draw < both, text=draw < both)


@dataclass(frozen=True, slots=True)
class Batch:
    """One forward: noisy latents, their noise and times, prompts and face features."""

    noisy_latents: Tensor
    noise: Tensor
    timesteps: Tensor
    prompts: list[str]
    id_embeds: Tensor
    clip_hidden: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        return Batch(
            self.noisy_latents.to(device),
            self.noise.to(device),
            self.timesteps.to(device),
            self.prompts,
            self.id_embeds.to(device),
            self.clip_hidden.to(device),
        )


def make_batch(
    samples: Sequence[tuple[int, Sample]],
    step: int,
    config: AnchoringConfig,
    nobody: Tensor,
    scaling_factor: float,
) -> Batch:
    """Draws noise, times and what is dropped for the samples, each from its own place.

    Dropping the face means the features of no face, which inference uses: a zero vector and the
    CLIP tokens `nobody` of zero pixels.
    """
    scheduler = ddim_scheduler()
    rows: list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]] = []
    prompts = []
    for place, sample in samples:
        rng = rng_of(config.seed, step, place)
        dropped = draw_dropped(rng.uniform(), config)
        timestep = torch.tensor([int(rng.integers(NUM_TIMESTEPS))])
        shape = tuple(sample.moments.shape[1:])
        latents = sample_latents(sample.moments, normal(rng, shape), scaling_factor)
        noise = normal(rng, shape)
        noisy = scheduler.add_noise(latents[None], noise[None], timestep)[0]
        face = (torch.zeros_like(sample.id_embeds), nobody)
        if not dropped.image:
            face = (sample.id_embeds, sample.clip_hidden)
        rows.append((noisy, noise, timestep[0], *face))
        prompts.append("" if dropped.text else sample.text)
    noisy, noise, timesteps, id_embeds, clip_hidden = map(torch.stack, zip(*rows, strict=True))
    return Batch(noisy, noise, timesteps, prompts, id_embeds, clip_hidden)


class AnchoringModel(nn.Module):
    """The UNet with semantic-activated attention, and the face projection."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        processors: nn.ModuleList,
        projection: FaceProjection,
        threshold: float,
    ) -> None:
        """Keeps them: of the UNet only its processors are trained, in float32."""
        super().__init__()
        self.dtype = unet.dtype
        self.unet = unet.requires_grad_(False)
        self.projection = projection.requires_grad_(True)
        self.processors = [processors.requires_grad_(True).float()]  # the UNet has them as modules
        self.control = SAAControl(
            num_people=1,
            tokens_per_person=projection.config.num_tokens,
            gate_threshold=threshold,
        )

    def forward(
        self,
        noisy_latents: Tensor,
        timesteps: Tensor,
        text: Tensor,
        id_embeds: Tensor,
        clip_hidden: Tensor,
    ) -> Tensor:
        """The predicted noise, (batch, 4, h, w): gate on, one person, no layout."""
        tokens = self.projection(id_embeds, clip_hidden)
        context = torch.cat([text.to(tokens.dtype), tokens], dim=1)
        predicted: Tensor = self.unet(
            noisy_latents.to(self.dtype),
            timesteps,
            context.to(self.dtype),
            cross_attention_kwargs={"saa": self.control},
            return_dict=False,
        )[0]
        return predicted
