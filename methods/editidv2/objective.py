"""One micro-batch of EditIDv2's training: draws, forward, losses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import cv2
import numpy as np
import torch
from diffusers import FluxPipeline
from torch import Tensor

from idbench.methods.common.training import normal, rng_of
from idbench.methods.editidv2.data import drop_of
from idbench.methods.editidv2.face_embedding import LatentFaces
from idbench.methods.editidv2.features import PairFeatures
from idbench.methods.editidv2.losses import (
    ID_LOSS_MAX_T,
    differentiable_id_loss,
    diffusion_loss,
    interpolate,
    official_id_loss,
    predicted_latents,
    train_timesteps,
)
from idbench.methods.editidv2.training_config import EditIDv2TrainingConfig
from idbench.methods.pulid.extraction import IDExtractor
from idbench.methods.pulid.faces import ImageArray, NoFaceError, largest_face


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatch:
    """Tensors of one forward; `reference` are the raw embeddings [batch, 512]."""

    latents: Tensor
    noise: Tensor
    t: Tensor
    prompt_embeds: Tensor
    pooled_prompt_embeds: Tensor
    identity_tokens: Tensor
    id_weight: Tensor
    alpha: Tensor
    reference: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawer:
    """Makes micro-batches. Every number drawn is a function of (seed, step, place in the batch)."""

    config: EditIDv2TrainingConfig
    empty_text: tuple[Tensor, Tensor]
    scaling_factor: float
    shift_factor: float
    device: torch.device
    dtype: torch.dtype
    levels: Tensor = field(init=False)

    def __post_init__(self) -> None:
        """Sets the grid of levels up."""
        tokens = (self.config.size // 16) ** 2
        official = self.config.mu == "official"
        object.__setattr__(
            self, "levels", train_timesteps() if official else train_timesteps(tokens)
        )

    def draw(self, step: int, samples: Sequence[tuple[int, PairFeatures]]) -> MicroBatch:
        """A micro-batch of (place in the step's batch, features)."""
        rows: dict[str, list[Tensor]] = {name: [] for name in MicroBatch.__slots__}
        for place, features in samples:
            for name, value in self._sample(step, place, features).items():
                rows[name].append(value)
        stacked = {name: torch.stack(values).to(self.device) for name, values in rows.items()}
        for name in ("prompt_embeds", "pooled_prompt_embeds"):
            stacked[name] = stacked[name].to(self.dtype)
        return MicroBatch(**stacked)

    def _sample(self, step: int, place: int, features: PairFeatures) -> dict[str, Tensor]:
        config = self.config
        rng = rng_of(config.seed, step, place)
        level = self.levels[int(rng.integers(len(self.levels)))]
        drop = drop_of(float(rng.uniform()))
        alpha = float(rng.uniform(config.alpha_min, 1.0))
        if config.alpha == "level":
            alpha = float(config.alpha0 or 0.0) * float(level)
        shape = tuple(features.mean.shape)
        latents = features.mean + features.std * normal(rng, shape)
        latents = (latents - self.shift_factor) * self.scaling_factor
        text = (features.prompt_embeds, features.pooled_prompt_embeds)
        if config.drop_text and drop.text:
            text = self.empty_text
        return {
            "latents": pack(latents),
            "noise": pack(normal(rng, shape)),
            "t": level,
            "prompt_embeds": text[0],
            "pooled_prompt_embeds": text[1],
            "identity_tokens": features.identity_tokens,
            "id_weight": torch.tensor(0.0 if config.drop_identity and drop.identity else 1.0),
            "alpha": torch.tensor(alpha),
            "reference": features.arcface,
        }


def pack(latents: Tensor) -> Tensor:
    """Latents [channels, h, w] of one image as tokens [h w / 4, 4 channels]."""
    channels, height, width = latents.shape
    packed: Tensor = FluxPipeline._pack_latents(latents[None], 1, channels, height, width)[0]
    return packed


@dataclass(frozen=True, kw_only=True, slots=True)
class IdentityTerm:
    """The identity term of equation 10 in the form that the configuration names.

    Attributes:
        config: Names the form.
        unpack: Packed clean latents as the VAE takes them.
        decode: Those latents to images in [-1, 1].
        extractor: Its detectors find faces.
        faces: Embeds faces with gradients; None where the form needs none.
    """

    config: EditIDv2TrainingConfig
    unpack: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
    extractor: IDExtractor
    faces: LatentFaces | None = None

    def __call__(self, clean: Tensor, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """The term, not yet weighted, and the share of the samples in which a face was found.

        Args:
            clean: Predicted clean latents, [batch, n, channels].
            batch: What they were predicted from.
        """
        if self.config.id_loss == "official" or self.faces is None:
            return self._official(clean, batch)
        # samples that count; the others are not even decoded
        shown = (batch.t <= ID_LOSS_MAX_T) & (batch.id_weight > 0)
        if not shown.any():
            return clean.new_zeros(()), clean.new_zeros(())
        seen = self.faces(self.unpack(clean[shown]))
        loss = differentiable_id_loss(
            seen.embeddings, batch.reference[shown], seen.found, batch.t[shown]
        )
        return loss * int(shown.sum()) / len(clean), seen.found.float().sum() / len(clean)

    def _official(self, clean: Tensor, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        embeddings = [self._embed(sample) for sample in torch.split(clean.detach(), 1)]
        generated = torch.from_numpy(np.stack(embeddings)).to(batch.reference)
        found = generated.any(dim=-1).float().mean()
        return official_id_loss(generated, batch.reference), found

    def _embed(self, clean: Tensor) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """Embedding of the largest face, else of the aligned crop, else zeros, as the script."""
        with torch.no_grad():
            image = self.decode(self.unpack(clean)).float().clamp(-1, 1)[0]
        rgb = (127.5 * (image + 1)).byte().permute(1, 2, 0).cpu().numpy()
        bgr = cast(ImageArray, cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGR))
        faces = self.extractor.recogniser.detect(bgr)
        if faces:
            return self.extractor.recogniser.embed(bgr, faces[largest_face(faces)])
        try:
            return self.extractor.recogniser.embed_crop(self.extractor.align(bgr, None))
        except NoFaceError:
            return np.zeros(512, np.float32)


@dataclass(frozen=True, slots=True)
class Losses:
    """Losses of a micro-batch, means over its samples.

    `identity` is None where it is off. `faces` is the share of the samples whose predicted image
    shows a face; the others contribute nothing to `identity` (official: 1).
    """

    diffusion: Tensor
    identity: Tensor | None = None
    faces: Tensor | None = None

    def total(self, strength: float) -> Tensor:
        """L_diff + lambda L_ID (equation 10)."""
        return (
            self.diffusion if self.identity is None else (self.diffusion + strength * self.identity)
        )


def losses_of(
    model: Callable[..., Tensor],
    batch: MicroBatch,
    image_ids: Tensor,
    config: EditIDv2TrainingConfig,
    identity_term: IdentityTerm | None,
) -> Losses:
    """Forward and losses; `model` is `TrainableFlux`, wrapped or not."""
    x_t = interpolate(batch.latents, batch.noise, batch.t)
    mixes = config.alpha != "off"
    velocity = model(
        x_t.to(batch.prompt_embeds.dtype),
        batch.t.to(batch.prompt_embeds.dtype),
        prompt_embeds=batch.prompt_embeds,
        pooled_prompt_embeds=batch.pooled_prompt_embeds,
        image_ids=image_ids,
        identity_tokens=batch.identity_tokens,
        id_weight=batch.id_weight,
        guidance_scale=config.guidance_scale,
        alpha=batch.alpha if mixes else None,
        noise=batch.noise.to(batch.prompt_embeds.dtype) if mixes else None,
    )
    diffusion = diffusion_loss(velocity, batch.latents, batch.noise)
    if identity_term is None:
        return Losses(diffusion)
    clean = predicted_latents(x_t, velocity.float(), batch.t)
    return Losses(diffusion, *identity_term(clean, batch))
