"""First- and second-order updates between noise levels, in either direction (equations 10 to 12).

A level is a point of the variance-preserving process: x = alpha x_0 + sigma noise. Denoising goes
to a cleaner level, inversion to a noisier one; the formulas are the same, h changes sign.
"""

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

# Below this the log-SNR difference of two levels is rounding, and a slope over it is noise.
_MIN_H = 1e-12


@dataclass(frozen=True, slots=True)
class Level:
    """A noise level. `timestep` is None for the clean level, at which no network is evaluated."""

    timestep: int | None
    alpha: float
    sigma: float

    @property
    def lam(self) -> float:
        """Half the log signal-to-noise ratio, log(alpha / sigma)."""
        return math.log(self.alpha / self.sigma)


@dataclass(frozen=True, slots=True)
class Prediction:
    """The clean latents that a step predicted, and the log-SNR of the level it predicted from."""

    x0: Tensor
    lam: float


def predict_x0(sample: Tensor, noise_pred: Tensor, source: Level) -> Tensor:
    """Clean latents from a noise prediction, equation 10."""
    return (sample - source.sigma * noise_pred) / source.alpha


def first_order(sample: Tensor, x0: Tensor, source: Level, target: Level) -> Tensor:
    """DDIM without noise, equation 11, from level `source` to level `target`."""
    h = target.lam - source.lam
    return (target.sigma / source.sigma) * sample - target.alpha * math.expm1(-h) * x0


def second_order(
    sample: Tensor,
    x0: Tensor,
    previous: Prediction,
    source: Level,
    target: Level,
    variant: Literal["midpoint", "heun"] = "midpoint",
) -> Tensor:
    """DPM-Solver++ 2M, equation 12, from level `source` to level `target`.

    `previous` is the prediction of the step before. Falls back to first order where one of the two
    intervals is empty.
    """
    h = target.lam - source.lam
    h_previous = source.lam - previous.lam
    if abs(h) < _MIN_H or abs(h_previous) < _MIN_H:
        return first_order(sample, x0, source, target)
    slope = (x0 - previous.x0) * (h / h_previous)
    base = first_order(sample, x0, source, target)
    if variant == "midpoint":
        return base - 0.5 * target.alpha * math.expm1(-h) * slope
    return base + target.alpha * (math.expm1(-h) / h + 1.0) * slope
