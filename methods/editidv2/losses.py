"""What EditIDv2's training minimises: flow matching and the identity term."""

import math
from collections.abc import Callable
from typing import Literal

from torch import Tensor
from torch.nn import functional

from idbench.methods.common.flux_sampling import euler_scheduler

TRAIN_STEPS = 999  # the official grid: 1000 levels, 1 and 0 included
TRAIN_TOKENS = 4096  # ... shifted as for 1024 px whatever the training size
ID_LOSS_MAX_T = 0.6  # above this level the predicted image shows no usable face; our choice

Mu = Literal["official", "match"]


def train_timesteps(image_tokens: int = TRAIN_TOKENS) -> Tensor:
    """The levels that training draws from, 1 to 0, shifted for `image_tokens`; [1000]."""
    sigmas: Tensor = euler_scheduler(TRAIN_STEPS, image_tokens).sigmas
    return sigmas


def interpolate(latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 - t) latents + t noise, for levels `t` [batch] and packed [batch, n, channels]."""
    t = t.view(-1, 1, 1)
    return (1 - t) * latents + t * noise


def predicted_latents(x_t: Tensor, velocity: Tensor, t: Tensor) -> Tensor:
    """The clean latents that a velocity implies: x_t - t v."""
    return x_t - t.view(-1, 1, 1) * velocity


def diffusion_loss(velocity: Tensor, latents: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error to the target noise - latents, in float32 over all elements."""
    return functional.mse_loss(velocity.float(), (noise - latents).float())


def id_distance(generated: Tensor, reference: Tensor) -> Tensor:
    """1 - cosine of embeddings [batch, 512], per sample; a zero vector is at distance 1."""
    generated = functional.normalize(generated.float(), dim=-1)
    reference = functional.normalize(reference.float(), dim=-1)
    return 1 - (generated * reference).sum(dim=-1)


def official_id_loss(generated: Tensor, reference: Tensor) -> Tensor:
    """The identity term as the official script logs it: the mean distance, without a gradient.

    A face that was not found is a zero vector and counts as 1, so with the script's own reference
    (always zeros, because its reading fails) the term is the constant 1.
    """
    return id_distance(generated.detach(), reference.detach()).mean()


def differentiable_id_loss(
    embeddings: Tensor | None, reference: Tensor, found: Tensor, t: Tensor
) -> Tensor:
    """The identity term with a gradient: mean over the batch of w(t) (1 - cosine).

    Args:
        embeddings: Of the faces found, [sum of found, 512]; None where there are none.
        reference: Of the reference photos, [batch, 512]; a zero row contributes nothing.
        found: Which samples show a face, bool [batch]. The others contribute 0, not 1.
        t: Noise levels, [batch]; w(t) is 1 up to `ID_LOSS_MAX_T` and 0 above.
    """
    counts = (t <= ID_LOSS_MAX_T) & (reference.abs().sum(dim=-1) > 0)
    if embeddings is None:
        return reference.new_zeros(())
    distances = id_distance(embeddings, reference[found])
    return (distances * counts[found]).sum() / len(reference)


def cosine_decay(step: int, steps: int) -> float:
    """Half a cosine from 1 at step 0 towards 0 at `steps` (beta of equation 11)."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def learning_rate_factor(
    schedule: Literal["cosine", "constant"], warmup: int, steps: int
) -> Callable[[int], float]:
    """Factor on the learning rate by optimizer step: linear warm-up, then the schedule."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if schedule == "constant":
            return 1.0
        return cosine_decay(step - warmup, max(steps - warmup, 1))

    return factor
