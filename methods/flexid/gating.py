"""Context-aware adaptive gating (CAG): weights of both streams at every step.

Equations (1) and (2) of FlexID: alpha = alpha_base * gamma_sem * T_sem(t) for the semantic identity
projector, w = w_base * gamma_vis * T_vis(t) for the visual feature anchor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Time = Literal["step", "sigma"]
Normalisation = Literal["mean", "max"]
Weights = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """Constants of both equations.

    Attributes:
        alpha_base: Of the text residual; 0.1 in the paper.
        w_base: Of the injected identity; 1 in the paper.
        eta_up: gamma_sem = 1 + eta_up * I. The paper gives no value; 0.5 moves the mean alpha to
            0.15, the upper end of the paper's range.
        eta_down: gamma_vis = 1 - eta_down * I, in [0, 1]. The paper gives no value; 0.3 is near
            1/3, which keeps the product of both factors at 1.
        kappa: Slope of the schedules, in [0, 1]: 1 is proportional to t as printed, 0 constant.
        time: "step" is the middle of the step, 1 - (i + 1/2) / N; "sigma" the scheduler's noise.
        norm: "mean" gives both schedules mean 1, so that the bases are average strengths and a
            constant schedule is a fair partner; "max" gives them at most 1, as printed.
    """

    alpha_base: float = 0.1
    w_base: float = 1.0
    eta_up: float = 0.5
    eta_down: float = 0.3
    kappa: float = 1.0
    time: Time = "step"
    norm: Normalisation = "mean"

    def __post_init__(self) -> None:
        """Checks ranges."""
        for name in ("alpha_base", "w_base", "eta_up"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in ("eta_down", "kappa"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")


def step_times(num_inference_steps: int) -> Weights:
    """Normalised time of each step, 1 at noise and 0 at the image, at the middle of the step.

    Symmetric, mean exactly 1/2, defined for one step, and never 0 or 1: no stream is off.
    """
    if num_inference_steps < 1:
        raise ValueError(f"num_inference_steps must be at least 1, got {num_inference_steps}")
    return 1 - (np.arange(num_inference_steps) + 0.5) / num_inference_steps


def schedules(
    gate: Gate, num_inference_steps: int, sigmas: Sequence[float] | None = None
) -> tuple[Weights, Weights]:
    """T_sem and T_vis at every step.

    Args:
        gate: Constants.
        num_inference_steps: N.
        sigmas: The scheduler's noise level at each step; needed for time "sigma".

    Raises:
        ValueError: If sigmas are needed and not one per step, or a schedule is zero throughout.
    """
    if gate.time == "sigma":
        if sigmas is None or len(sigmas) != num_inference_steps:
            given = None if sigmas is None else len(sigmas)
            raise ValueError(f"time='sigma' needs {num_inference_steps} sigmas, got {given}")
        times = np.asarray(sigmas, np.float64)
    else:
        times = step_times(num_inference_steps)
    slope = gate.kappa * (2 * times - 1)
    semantic, visual = 1 + slope, 1 - slope
    if gate.norm == "max":
        return semantic / (1 + gate.kappa), visual / (1 + gate.kappa)
    if gate.time == "step":  # their mean is 1 already
        return semantic, visual
    if not (semantic.mean() > 0 and visual.mean() > 0):
        raise ValueError(
            f"time='sigma' over sigmas {times.tolist()} leaves a schedule without weight; use "
            "time='step', kappa below 1 or more steps"
        )
    return semantic / semantic.mean(), visual / visual.mean()


def weights(
    gate: Gate, num_inference_steps: int, intent: float, sigmas: Sequence[float] | None = None
) -> tuple[Weights, Weights]:
    """Alpha and w at every step, equations (1) and (2).

    Args:
        gate: Constants.
        num_inference_steps: N.
        intent: I(P), in [0, 1].
        sigmas: See `schedules`.

    Raises:
        ValueError: If `intent` is outside [0, 1], or see `schedules`.
    """
    if not 0 <= intent <= 1:
        raise ValueError(f"intent must be in [0, 1], got {intent}")
    semantic, visual = schedules(gate, num_inference_steps, sigmas)
    gamma_sem, gamma_vis = 1 + gate.eta_up * intent, 1 - gate.eta_down * intent
    return gamma_sem * (gate.alpha_base * semantic), gamma_vis * (gate.w_base * visual)
