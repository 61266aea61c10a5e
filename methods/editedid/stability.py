"""How far a reconstruction strays from the inversion it should retrace (the paper's Table 11).

The paper names the four numbers and gives no formulas; these are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Stability:
    """Solver stability; all are 0 for a perfect retrace.

    Attributes:
        cumulative_mse: Sum of the mean squared errors of the states at levels 1 to N.
        max_jump: Largest change of the error between neighbouring levels.
        final_l2: Root mean squared error of the clean state.
    """

    cumulative_mse: float
    max_jump: float
    final_l2: float


def stability(errors: Sequence[float]) -> Stability:
    """Numbers of a trajectory from the mean squared errors of its states.

    Args:
        errors: At levels 0 (noise, where the reconstruction starts) to N (clean).
    """
    m = np.asarray(errors, dtype=np.float64)
    return Stability(
        cumulative_mse=float(m[1:].sum()),
        max_jump=float(np.abs(np.diff(m)).max(initial=0.0)),
        final_l2=float(np.sqrt(m[-1])),
    )


def psnr(image: NDArray[np.uint8], reference: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB of two 8-bit images of one shape; infinite if equal.

    Raises:
        ValueError: If the shapes differ.
    """
    if image.shape != reference.shape:
        raise ValueError(
            f"PSNR needs two images of one shape, got {image.shape} and {reference.shape}"
        )
    error = np.mean((image.astype(np.float64) - reference.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10.0 * np.log10(255.0**2 / error))
