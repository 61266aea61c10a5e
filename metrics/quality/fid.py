"""FID and KID: how far the images with identity, as a set, are from those without.

IBench compares {with identity} with {without identity}: doing nothing scores 0. Both distances are
biased or noisy at the sizes of its suites; the number of images belongs beside every value.
"""

import logging
import math
from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from idbench.metrics.frechet import Moments, frechet_distance, kernel_distance
from idbench.metrics.protocol import MetricInfo, Missing, Observation, Role, SetMetric

log = logging.getLogger(__name__)

NEEDS: Mapping[Role, tuple[str, ...]] = {"generated": ("inception",), "base": ("inception",)}
WIDTH = 2048

MIN_IMAGES = 50
# With fewer images than dimensions the covariance is singular and the bias large.
FULL_RANK_IMAGES = 2048
_BLOCK = 512

Vectors = list[NDArray[np.float32]]


def _pair(observation: Observation) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    generated = observation.get("generated", "inception")["output"]
    return generated, observation.get("base", "inception")["output"]


class FidState:
    """Moments of both sets; of vectors only those of the last incomplete block are kept."""

    def __init__(self, min_images: int) -> None:
        """Refuses to compute with fewer images than `min_images`."""
        self._min_images = min_images
        self._moments = [Moments.of(np.empty((0, WIDTH))) for _ in range(2)]
        self._pending: tuple[Vectors, Vectors] = ([], [])

    def update(self, observation: Observation) -> None:
        """Adds the image with and the one without identity."""
        for vectors, vector in zip(self._pending, _pair(observation), strict=True):
            vectors.append(vector)
        if len(self._pending[0]) >= _BLOCK:
            self._fold()

    def merge(self, other: Self) -> None:
        """Adds the images of another state."""
        self._fold()
        other._fold()
        self._moments = [
            mine.merged(theirs) for mine, theirs in zip(self._moments, other._moments, strict=True)
        ]

    def compute(self) -> Mapping[str, float | Missing]:
        """The distance of the two Gaussians."""
        self._fold()
        first, second = self._moments
        if first.count < self._min_images:
            detail = f"{first.count} images, FID needs at least {self._min_images}"
            return {"": Missing("too_few_images", detail)}
        if first.count < FULL_RANK_IMAGES:
            log.warning(
                "FID over %d images is biased upwards: %d are needed for a covariance of full rank",
                first.count,
                FULL_RANK_IMAGES,
            )
        value = frechet_distance(first.mean, first.covariance, second.mean, second.covariance)
        return {"": max(value, 0.0)}  # rounding of the root can carry equal sets below 0

    def _fold(self) -> None:
        if self._pending[0]:
            self._moments = [
                moments.merged(Moments.of(np.stack(vectors)))
                for moments, vectors in zip(self._moments, self._pending, strict=True)
            ]
            self._pending = ([], [])


class Fid:
    """Squared Fréchet distance of Inception features, images with identity against without.

    `ibench` takes any number of images from two on; its folders also kept the images of earlier
    runs, which is not reproduced. `strict` has no value below 50 images.
    """

    version = 1
    needs = NEEDS

    def __init__(self, protocol: Literal["ibench", "strict"]) -> None:
        """The distance under a protocol."""
        self._min_images = 2 if protocol == "ibench" else MIN_IMAGES
        self.info = MetricInfo(
            name="fid",
            protocol=protocol,
            backend="inception",
            summary="Fréchet distance of the sets of images with and without identity",
            unit="squared distance",
            higher_is_better=False,
            bounds=(0.0, math.inf),
            axis="quality",
            papers=("EditIDv2",) if protocol == "ibench" else (),
            comparable_to_published=protocol == "ibench",
        )

    def start(self) -> FidState:
        """A state without images."""
        return FidState(self._min_images)


class KidState:
    """Inception features of both sets."""

    def __init__(self) -> None:
        """No images yet."""
        self._vectors: tuple[Vectors, Vectors] = ([], [])

    def update(self, observation: Observation) -> None:
        """Adds the image with and the one without identity."""
        for vectors, vector in zip(self._vectors, _pair(observation), strict=True):
            vectors.append(vector)

    def merge(self, other: Self) -> None:
        """Adds the images of another state."""
        for mine, theirs in zip(self._vectors, other._vectors, strict=True):
            mine.extend(theirs)

    def compute(self) -> Mapping[str, float | Missing]:
        """The kernel distance over 100 subsets of at most 1000 images."""
        count = len(self._vectors[0])
        if count < MIN_IMAGES:
            detail = f"{count} images, KID needs at least {MIN_IMAGES}"
            return {"": Missing("too_few_images", detail)}
        return {"": kernel_distance(*(_in_order(vectors) for vectors in self._vectors))}


def _in_order(vectors: Vectors) -> NDArray[np.float32]:
    # Subsets are drawn by position: an order that only the contents decide makes the draw, and so
    # the value, independent of the order in which images were scored.
    stacked = np.stack(vectors)
    ordered: NDArray[np.float32] = stacked[np.lexsort(stacked[:, :16].T)]
    return ordered


class Kid:
    """Unbiased squared kernel distance of Inception features; it can be slightly negative.

    Beside FID because FID is biased at these sizes. No value below 50 images.
    """

    version = 1
    needs = NEEDS
    info = MetricInfo(
        name="kid",
        protocol="strict",
        backend="inception",
        summary="kernel distance of the sets of images with and without identity",
        unit="squared distance",
        higher_is_better=False,
        bounds=(-math.inf, math.inf),
        axis="quality",
        comparable_to_published=False,
    )

    def start(self) -> KidState:
        """A state without images."""
        return KidState()


def fid_ibench() -> SetMetric:
    """FID of IBench."""
    return Fid("ibench")


def fid_strict() -> SetMetric:
    """FID with a least number of images."""
    return Fid("strict")
