"""Fréchet distance and kernel distance of two sets of features, from mergeable statistics."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import sqrtm

Features = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True, slots=True)
class Moments:
    """Number, mean (d,) and scatter (d, d) of vectors: sums that two sets can be merged by.

    The scatter is the sum of outer products of deviations from the mean.
    """

    count: int
    mean: NDArray[np.float64]
    scatter: NDArray[np.float64]

    @classmethod
    def of(cls, features: Features) -> "Moments":
        """Moments of `n d` vectors."""
        x = np.asarray(features, np.float64)
        mean = x.mean(axis=0) if len(x) else np.zeros(x.shape[1])
        deviation = x - mean
        return cls(count=len(x), mean=mean, scatter=deviation.T @ deviation)

    def merged(self, other: "Moments") -> "Moments":
        """Moments of both sets together (Chan et al., parallel variance)."""
        if not other.count:
            return self
        if not self.count:
            return other
        count = self.count + other.count
        shift = other.mean - self.mean
        share = self.count * other.count / count
        return Moments(
            count=count,
            mean=self.mean + shift * (other.count / count),
            scatter=self.scatter + other.scatter + share * np.outer(shift, shift),
        )

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Unbiased covariance; NaN for fewer than two vectors, as `numpy.cov`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            covariance: NDArray[np.float64] = self.scatter / np.float64(self.count - 1)
        return covariance


def frechet_distance(
    mean1: Features, covariance1: Features, mean2: Features, covariance2: Features
) -> float:
    """Squared Fréchet distance of two Gaussians, as pytorch-fid computes it.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)). Where the product has no finite root, 1e-6 is added
    to both diagonals.

    Raises:
        ValueError: If the root has imaginary parts beyond rounding on its diagonal.
    """
    c1, c2 = np.asarray(covariance1, np.float64), np.asarray(covariance2, np.float64)
    root = np.asarray(sqrtm(c1 @ c2))
    if not np.isfinite(root).all():
        offset = np.eye(len(c1)) * 1e-6
        root = np.asarray(sqrtm((c1 + offset) @ (c2 + offset)))
    if np.iscomplexobj(root):
        imaginary = np.abs(np.diagonal(root).imag).max()
        if imaginary > 1e-3:
            raise ValueError(f"the root of the covariances has imaginary part {imaginary:g}")
        root = root.real
    shift = np.asarray(mean1, np.float64) - mean2
    return float(shift @ shift + np.trace(c1) + np.trace(c2) - 2 * np.trace(root))


def polynomial_mmd(x: Features, y: Features) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x.y/d + 1)^3.

    Bińkowski et al. (arXiv 1801.01401). It can be negative; its expectation is 0 for equal sources.

    Raises:
        ValueError: If a set has fewer than two vectors.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(f"the kernel distance needs two vectors per set, got {len(x)}, {len(y)}")
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    width = a.shape[1]

    def kernel(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        values: NDArray[np.float64] = (u @ v.T / width + 1) ** 3
        return values

    def within(u: NDArray[np.float64]) -> float:
        values = kernel(u, u)
        return float((values.sum() - np.trace(values)) / (len(u) * (len(u) - 1)))

    return within(a) + within(b) - 2 * float(kernel(a, b).mean())


def kernel_distance(
    x: Features, y: Features, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> float:
    """KID: `polynomial_mmd` averaged over random subsets, without replacement within each."""
    size = min(subset_size, len(x), len(y))
    if size == len(x) == len(y):
        return polynomial_mmd(x, y)  # every subset is the whole set
    random = np.random.default_rng(seed)
    distances = [
        polynomial_mmd(
            x[random.choice(len(x), size, replace=False)],
            y[random.choice(len(y), size, replace=False)],
        )
        for _ in range(subsets)
    ]
    return float(np.mean(distances))
