"""Loops of the solver: inversion of a pair under mixing, and plain inversion and reconstruction."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from idbench.methods.editedid.mixing import AdaptiveMixer
from idbench.methods.editedid.scheduler import HybridDDIMDPMScheduler
from idbench.methods.editedid.solver import Prediction

# (latents, timestep) -> predicted noise of the same shape
NoisePredictor = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True, slots=True)
class Inversion:
    """States of a dual inversion.

    Attributes:
        states: N + 1 tensors of shape (pairs, 2, ...), at levels 0 (noise) to N (clean); role 0 is
            the original, role 1 the edited image.
        weights: Mixing weight of each inversion step, clean to noisy, (pairs,) each.
        gaps: Mean squared gap before each mixing, likewise.
    """

    states: list[Tensor]
    weights: list[Tensor]
    gaps: list[Tensor]


def invert_pair(
    latents: Tensor,
    noise_pred: NoisePredictor,
    scheduler: HybridDDIMDPMScheduler,
    mixer: AdaptiveMixer,
) -> Inversion:
    """Adds noise to both images of each pair in lock-step, mixing after every step.

    Predictions are made from the mixed states; the multistep history belongs to each row.

    Args:
        latents: Clean latents, (pairs, 2, ...).
        noise_pred: Called with latents of that shape.
        scheduler: With its timesteps set.
        mixer: A new one.
    """
    state = latents
    states = [state]
    history: Prediction | None = None
    for step in reversed(range(len(scheduler.timesteps))):
        timestep = int(scheduler.timesteps[step])
        moved, history = scheduler.inverse_step(state, noise_pred(state, timestep), step, history)
        state = torch.stack(mixer(moved[:, 0], moved[:, 1]), dim=1)
        states.append(state)
    return Inversion(states[::-1], mixer.weights, mixer.gaps)


def invert(
    latents: Tensor, noise_pred: NoisePredictor, scheduler: HybridDDIMDPMScheduler
) -> list[Tensor]:
    """Latents at levels 0 (noise) to N (clean), from clean latents of any shape."""
    state = latents
    states = [state]
    history: Prediction | None = None
    for step in reversed(range(len(scheduler.timesteps))):
        predicted = noise_pred(state, int(scheduler.timesteps[step]))
        state, history = scheduler.inverse_step(state, predicted, step, history)
        states.append(state)
    return states[::-1]


def reconstruct(
    latents: Tensor, noise_pred: NoisePredictor, scheduler: HybridDDIMDPMScheduler
) -> list[Tensor]:
    """Latents at levels 0 (noise) to N (clean), from latents at level 0 of any shape."""
    state = latents
    states = [state]
    history: Prediction | None = None
    for step in range(len(scheduler.timesteps)):
        predicted = noise_pred(state, int(scheduler.timesteps[step]))
        state, history = scheduler.step(state, predicted, step, history)
        states.append(state)
    return states
