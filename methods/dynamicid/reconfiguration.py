"""The reconfiguration stage (section 3.2): its settings, its steps and what it trains."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from idbench.methods.dynamicid.control import SAAControl
from idbench.methods.dynamicid.keypoints import (
    KeypointEncoder,
    draw_landmarks,
    landmark_points,
    landmark_tensor,
    perturb_landmarks,
)
from idbench.methods.dynamicid.losses import latent_diffusion_consistency
from idbench.methods.dynamicid.reconfigurator import IdentityMotionReconfigurator
from idbench.methods.dynamicid.token_cache import CachedIdentity
from idbench.methods.dynamicid.training import TrainingConfig
from idbench.methods.dynamicid.variface import Portrait, read_landmarks

COMMON_PROMPT = "portrait, cinematic photo, film, professional, 4k, highly detailed"
"""The one prompt of all faces in the official code."""


@dataclass(frozen=True, kw_only=True)
class ReconfigurationConfig(TrainingConfig):
    """Settings of the stage besides those of `TrainingConfig`.

    Attributes:
        data: VariFace folder, one subfolder per identity.
        weights: Folder with Stable Diffusion 1.5, CLIP-ViT-H and buffalo_l.
        saa: Weights of the anchoring stage; in `weights` if None.
        kdef: KDEF folder, one subfolder per person; left out if None.
        kdef_share: Share of steps with a person of KDEF (section 4.1: 0.05).
        base: As for the method, if not in `weights`.
        clip_vision: As `base`.
        face_models: As `base`.
        initial: IMR to start from, with its key point encoder beside it; fresh ones if None.
        cache: Folder of tokens; `output/tokens` if None.
        identities_per_step: Over all processes. The official code has one; section 4.1 says that
            the batch size is 16, not of what.
        targets_per_step: Target pictures per identity of VariFace, drawn with replacement
            (official code: 32); of KDEF all others are taken.
        ldc_weight: Lambda of equation 7 (section 4.1: 1); 0 leaves the UNet out.
        ldc_prompt: "face" conditions the UNet on the target's face prompt (equation 8), "common"
            on one prompt for all (official code).
        landmark_noise: Strength of the perturbation of landmarks; 0 is the official code.
        resolution: Side of the pictures in pixels.
        micro_batch_size: Targets per UNet forward; None takes them all at once.
        gate_threshold: As at inference.
        face_crop_factor: As at inference.
        imr_dim: Width of a fresh IMR.
        imr_depth: Its layers in either net (the paper: 1).
        keypoint_width_divisor: Of a fresh key point encoder.
    """

    data: Path
    weights: Path
    saa: Path | None = None
    kdef: Path | None = None
    kdef_share: float = 0.05
    base: Path | None = None
    clip_vision: Path | None = None
    face_models: Path | None = None
    initial: Path | None = None
    cache: Path | None = None
    identities_per_step: int = 1
    targets_per_step: int = 32
    ldc_weight: float = 1.0
    ldc_prompt: Literal["face", "common"] = "face"
    landmark_noise: float = 1.0
    resolution: int = 512
    micro_batch_size: int | None = None
    gate_threshold: float = 0.3
    face_crop_factor: float = 1.6
    imr_dim: int = 1024
    imr_depth: int = 1
    keypoint_width_divisor: int = 1

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            ValueError: Naming the setting, its value and what is allowed.
        """
        super().__post_init__()
        if self.mixed_precision == "fp16":
            raise ValueError(
                "mixed_precision must be no or bf16 in this stage: gradients pass through the UNet "
                "and would underflow in fp16"
            )
        for name in ("identities_per_step", "targets_per_step", "imr_depth"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name, high in (("kdef_share", 1.0), ("ldc_weight", 1e6), ("landmark_noise", 100.0)):
            if not 0.0 <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be in [0, {high:g}], got {getattr(self, name)}")
        if self.resolution < 64 or self.resolution % 64:
            raise ValueError(f"resolution must be a multiple of 64, got {self.resolution}")
        if self.imr_dim < 64 or self.imr_dim % 64:
            raise ValueError(f"imr_dim must be a multiple of 64, got {self.imr_dim}")


@dataclass(frozen=True, slots=True)
class Episode:
    """One source face of an identity and the targets that it is to be moved to.

    Token and text tensors are (1, ...) for the source and (m, ...) for the targets, `maps` is
    (1 + m, 1, 96, 96) with the source first.
    """

    source_tokens: Tensor
    target_tokens: Tensor
    maps: Tensor
    texts: Tensor
    targets: tuple[Portrait, ...]


def draw_episode(
    identity: CachedIdentity,
    rng: np.random.Generator,
    *,
    targets: int | None,
    landmark_noise: float,
) -> Episode:
    """A source and `targets` pictures with replacement, or all others if None (KDEF)."""
    count = len(identity.portraits)
    source = int(rng.integers(count))
    if targets is None:
        chosen = [index for index in range(count) if index != source]
    else:
        chosen = rng.integers(count, size=targets).tolist()
    order = [source, *chosen]
    maps = [
        perturbed_map(identity.portraits[index], rng, landmark_noise).unsqueeze(0)
        for index in order
    ]
    return Episode(
        source_tokens=identity.tokens[[source]],
        target_tokens=identity.tokens[chosen],
        maps=torch.cat(maps),
        texts=identity.texts[order],
        targets=tuple(identity.portraits[index] for index in chosen),
    )


def perturbed_map(portrait: Portrait, rng: np.random.Generator, strength: float) -> Tensor:
    """The landmark map of a picture, (1, 96, 96), its points moved a little."""
    points = landmark_points(read_landmarks(portrait.landmarks))
    return landmark_tensor(draw_landmarks(perturb_landmarks(points, rng, strength)))


class ReconfigurationModel(nn.Module):
    """The IMR and its key point encoder."""

    def __init__(self, imr: IdentityMotionReconfigurator, keypoints: KeypointEncoder) -> None:
        """Keeps both."""
        super().__init__()
        self.imr = imr
        self.keypoints = keypoints

    def forward(self, source_tokens: Tensor, maps: Tensor, texts: Tensor) -> Tensor:
        """Predicted tokens (m, tokens, width) of one source; batch norm sees all 1 + m maps."""
        landmarks = self.keypoints(maps).flatten(1)
        predicted: Tensor = self.imr(
            source_tokens, landmarks[:1], landmarks[1:], texts[:1], texts[1:]
        )
        return predicted


@dataclass(frozen=True, slots=True)
class Noised:
    """Noisy target latents (m, 4, h, w), their times (m,) and prompts (m, 77, width)."""

    latents: Tensor
    timesteps: Tensor
    text: Tensor


class ConsistencyTeacher:
    """The UNet of the anchoring stage, which compares predicted and target tokens (LDC)."""

    def __init__(
        self, unet: UNet2DConditionModel, *, tokens_per_person: int, threshold: float
    ) -> None:
        """Keeps the UNet, frozen: gate on, layout off, conditional branch only."""
        self.unet = unet.requires_grad_(False)
        self.control = SAAControl(
            num_people=1, tokens_per_person=tokens_per_person, gate_threshold=threshold
        )

    def noise(self, tokens: Tensor, noised: Noised) -> Tensor:
        """The UNet's noise under identity tokens."""
        context = torch.cat([noised.text.to(tokens.dtype), tokens], dim=1).to(self.unet.dtype)
        predicted: Tensor = self.unet(
            noised.latents.to(self.unet.dtype),
            noised.timesteps,
            context,
            cross_attention_kwargs={"saa": self.control},
            return_dict=False,
        )[0]
        return predicted

    def gradient(
        self,
        predicted: Tensor,
        target: Tensor,
        noised: Callable[[slice], Noised],
        chunk: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Equation 8 and its gradient with respect to the predicted tokens.

        The UNet is frozen, so the gradient of a chunk of targets needs nothing of the others and
        memory is that of one chunk. Targets get no gradient and no graph.
        """
        count = len(predicted)
        total = torch.zeros((), device=predicted.device)
        gradient = torch.zeros_like(predicted)
        for start in range(0, count, chunk or count):
            part = slice(start, min(start + (chunk or count), count))
            inputs = noised(part)
            leaf = predicted[part].detach().requires_grad_()
            with torch.no_grad():
                expected = self.noise(target[part], inputs)
            share = (part.stop - part.start) / count
            loss = latent_diffusion_consistency(self.noise(leaf, inputs), expected) * share
            (gradient[part],) = torch.autograd.grad(loss, leaf)
            total += loss.detach()
        return total, gradient
