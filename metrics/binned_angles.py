"""Angles from the binned logits of Hopenet."""

import numpy as np
from numpy.typing import NDArray

BIN_DEGREES = 3.0
LOWEST_DEGREES = -99.0
HIGHEST_DEGREES = LOWEST_DEGREES + 65 * BIN_DEGREES

Logits = NDArray[np.floating]


def expected_angles(logits: Logits) -> NDArray[np.float64]:
    """Expected angle in degrees, in [-99, 96], of logits `... 66`: 3 E[bin] - 99."""
    z = np.asarray(logits, np.float64)
    weights = np.exp(z - z.max(axis=-1, keepdims=True))
    return _expectation(weights)


def expected_angles_ibench(logits: Logits) -> NDArray[np.float64]:
    """As `expected_angles`, with IBench's softmax in float32 that does not subtract the maximum.

    Logits above 88 overflow and give NaN.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        weights = np.exp(np.asarray(logits, np.float32))
        return _expectation(weights)


def _expectation(weights: NDArray[np.floating]) -> NDArray[np.float64]:
    bins = np.arange(weights.shape[-1])
    mean = (weights * bins).sum(axis=-1) / weights.sum(axis=-1)
    angles: NDArray[np.float64] = np.asarray(mean * BIN_DEGREES + LOWEST_DEGREES, np.float64)
    return angles
