"""Adaptive mixing: the latents of two images move towards each other (equations 1 to 3)."""

from functools import lru_cache

import torch
from torch import Tensor

from idbench.methods.editedid.config import MAX_WEIGHT, EditedIDConfig

# The grid on which the step size is searched. Above 1/8 the normalised recursion overshoots.
LR_GRID, LR_LIMIT = 0.0005, 0.125


def squared_gap(original: Tensor, intermediate: Tensor) -> Tensor:
    """Mean squared difference of two latents, one number per entry of the first axis."""
    return (original - intermediate).square().flatten(1).mean(1)


def mix(original: Tensor, intermediate: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Both latents after mixing, equation 2; `weight` has one entry per entry of the first axis.

    Their sum is unchanged. At weight 0.5 they are equal bit for bit, since addition commutes.
    """
    w = weight.to(original).view(-1, *[1] * (original.ndim - 1))
    return (1 - w) * original + w * intermediate, (1 - w) * intermediate + w * original


def next_weight(weight: Tensor, lr: float, scale: Tensor | float) -> Tensor:
    """The weight after one gradient step on the alignment loss, equation 1, clipped to [0, 0.5].

    The loss of a mixed pair is (1 - 2w)^2 D, its gradient -4 (1 - 2w) D; `scale` is D for the
    literal loss and 1 for the normalised one. The weight never falls.
    """
    return (weight + 4.0 * lr * scale * (1.0 - 2.0 * weight)).clamp(max=MAX_WEIGHT)


@lru_cache(maxsize=32)
def automatic_lr(num_steps: int, w_init: float, final_steps: int) -> float:
    """Step size whose schedule has the smallest largest one-step drop of the gap.

    The gap after j steps of the normalised schedule is the product of 1 - 2w over them; the last
    `final_steps` close it. Searched on a grid of 0.0005 up to 1/8, where one step closes it.
    """

    def largest_drop(lr: float) -> float:
        gap, u, worst = 1.0, 1.0 - 2.0 * w_init, 0.0
        for step in range(num_steps):
            after = 0.0 if step >= num_steps - final_steps else gap * u
            worst = max(worst, gap - after)
            gap, u = after, max(0.0, (1.0 - 8.0 * lr) * u)
        return worst

    grid = [index * LR_GRID for index in range(round(LR_LIMIT / LR_GRID) + 1)]
    return min(grid, key=largest_drop)


class AdaptiveMixer:
    """The recursion of the mixing weight over the inversion steps of a batch of pairs.

    Args:
        config: Settings; without alignment the latents pass unmixed.
        pairs: Number of pairs; each has its own weight.

    Attributes:
        weights: The weights used so far, one tensor of shape (pairs,) per step, in float64.
        gaps: Mean squared gap before mixing, likewise.
    """

    def __init__(self, config: EditedIDConfig, pairs: int) -> None:
        """Starts at the first inversion step."""
        self._config = config
        self._lr = (
            automatic_lr(config.num_inference_steps, config.w_init, config.final_steps)
            if config.mix_lr == "auto"
            else config.mix_lr
        )
        self._weight = torch.full((pairs,), config.w_init, dtype=torch.float64)
        self.weights: list[Tensor] = []
        self.gaps: list[Tensor] = []

    def __call__(self, original: Tensor, intermediate: Tensor) -> tuple[Tensor, Tensor]:
        """Mixes the latents of the next inversion step; the first axis counts pairs."""
        config = self._config
        if not config.alignment:
            return original, intermediate
        gap = squared_gap(original, intermediate).double()
        self._weight = self._weight.to(gap.device)  # copied once: no step waits for the device
        if len(self.weights) >= config.num_inference_steps - config.final_steps:
            self._weight = torch.full_like(self._weight, MAX_WEIGHT)
        self.weights.append(self._weight)
        self.gaps.append(gap)
        mixed = mix(original, intermediate, self._weight)
        scale = gap if config.mix_loss == "mse" else torch.ones_like(gap)
        self._weight = next_weight(self._weight, self._lr, scale)
        return mixed
