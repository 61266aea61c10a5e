"""Timesteps of the two solvers and of their combination (equations 6, 13 and 14)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from idbench.methods.editedid.config import DdimSpacing, DpmSpacing

TRAINING_STEPS = 1000
# Ends of equations 13 and 14, which the paper names but whose numbers are lost: the noisiest
# timestep, and the cleanest that still has noise (equation 14 cannot start at 0).
T_MAX, T_MIN = 999, 1


def ddim_timesteps(
    num_steps: int, spacing: DdimSpacing = "leading", *, steps_offset: int = 1
) -> list[int]:
    """DDIM timesteps, noisiest first.

    "linear" is equation 13; "leading" and "trailing" are those of diffusers' DDIMScheduler.

    Raises:
        ValueError: If the spacing is unknown.
    """
    _check(spacing, DdimSpacing)
    if spacing == "linear":
        return _rounded(T_MAX - _ramp(num_steps) * (T_MAX - T_MIN))
    if spacing == "trailing":
        return _trailing(num_steps)
    stride = TRAINING_STEPS // num_steps
    return [k * stride + steps_offset for k in reversed(range(num_steps))]


def dpm_timesteps(
    num_steps: int,
    spacing: DpmSpacing = "leading",
    *,
    steps_offset: int = 1,
    lambdas: NDArray[np.float64] | None = None,
    ends: tuple[int, int] = (T_MAX, T_MIN),
) -> list[int]:
    """DPM-Solver++ timesteps, noisiest first.

    "log_t" is equation 14. "log_snr" is uniform in the log signal-to-noise ratio `lambdas` (one
    entry per training timestep) between the timesteps `ends`. The others are those of diffusers'
    DPMSolverMultistepScheduler.

    Raises:
        ValueError: If the spacing is unknown, or "log_snr" is asked for without `lambdas`.
    """
    _check(spacing, DpmSpacing)
    if spacing == "log_t":
        return _rounded(T_MAX * (T_MIN / T_MAX) ** _ramp(num_steps))
    if spacing == "log_snr":
        if lambdas is None:
            raise ValueError("spacing 'log_snr' needs lambdas, the log-SNR of every timestep")
        grid = np.linspace(lambdas[ends[0]], lambdas[ends[1]], num_steps)
        return _rounded(np.interp(grid, lambdas[::-1], np.arange(len(lambdas))[::-1]))
    if spacing == "trailing":
        return _trailing(num_steps)
    if spacing == "linspace":
        return _rounded(np.linspace(0, TRAINING_STEPS - 1, num_steps + 1)[:0:-1])
    stride = TRAINING_STEPS // (num_steps + 1)
    return [k * stride + steps_offset for k in range(num_steps, 0, -1)]


def hybrid_timesteps(
    ddim: Sequence[int], dpm: Sequence[int], dpm_range: tuple[int, int] | None
) -> list[int]:
    """Global timestep pre-setting, equation 6: step k from its own solver's full sequence.

    Raises:
        ValueError: If a timestep repeats or rises where the solvers change: the solver would take
            a step of length zero, or backwards.
    """
    first, last = dpm_range or (len(ddim), -1)
    picked = [dpm[k] if first <= k <= last else ddim[k] for k in range(len(ddim))]
    for step, (before, after) in enumerate(pairwise(picked)):
        if after >= before:
            what = "repeats" if after == before else "rises"
            raise ValueError(
                f"timesteps must decrease strictly, but step {step} to {step + 1} {what}: "
                f"{before}, {after} in {picked}; choose another dpm_range, give ddim_spacing and "
                "dpm_spacing the same kind, or set timestep_policy='shared'"
            )
    return picked


def fragmented_timesteps(num_steps: int, dpm_range: tuple[int, int]) -> list[int]:
    """The scheduling that the paper abandons: each segment covers the whole range by itself.

    A negative control for solver stability. The sequence is not monotone.
    """
    first, last = dpm_range
    head = ddim_timesteps(first) if first else []
    tail = ddim_timesteps(num_steps - 1 - last) if last < num_steps - 1 else []
    return [*head, *dpm_timesteps(last - first + 1), *tail]


def _ramp(num_steps: int) -> NDArray[np.float64]:
    return np.arange(num_steps) / max(num_steps - 1, 1)


def _trailing(num_steps: int) -> list[int]:
    stride = TRAINING_STEPS / num_steps
    return [t - 1 for t in _rounded(np.arange(TRAINING_STEPS, 0, -stride))]


def _rounded(times: NDArray[np.float64]) -> list[int]:
    return [int(t) for t in np.round(times)]


def _check(spacing: str, allowed: object) -> None:
    if spacing not in get_args(allowed):
        raise ValueError(
            f"timestep spacing must be one of {', '.join(get_args(allowed))}, got {spacing!r}"
        )
