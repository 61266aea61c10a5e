"""Cosine similarity, in float64."""

import numpy as np
from numpy.typing import NDArray


def cosine(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Cosine of two vectors, in [-1, 1]; NaN if one of them is zero, as in IBench."""
    return float(cosines(a, np.asarray(b)[None])[0])


def cosines(a: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cosines of one vector (d,) with several (n, d); NaN where one of a pair is zero.

    Rounding can carry the quotient past 1 by one unit in the last place; it is cut off there.
    """
    one = np.asarray(a, np.float64).ravel()
    many = np.asarray(others, np.float64).reshape(-1, one.size)
    with np.errstate(invalid="ignore"):
        quotient = many @ one / (np.linalg.norm(many, axis=1) * np.linalg.norm(one))
    clipped: NDArray[np.float64] = np.clip(quotient, -1.0, 1.0)
    return clipped
