"""Sharpness of an image by its second derivative; classical, without a network."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import laplace

from idbench.metrics.extractors.items import image_of
from idbench.metrics.protocol import Features, Item, Missing

_LUMA = np.array([0.299, 0.587, 0.114])


def laplacian_variance(image: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of the luma, in grey levels squared; 0 for a flat image.

    It depends on the resolution (it doubles at half the size): compare images of one size.
    """
    luma = np.rint(image.astype(np.float64) @ _LUMA)
    return float(laplace(luma, mode="mirror").var())


class Sharpness:
    """Features of an image: `variance` (), its `laplacian_variance`."""

    name = "sharpness"
    needs: tuple[str, ...] = ()
    reads: Literal["image"] = "image"
    version = 1

    def __init__(self, *, device: str = "cpu", dtype: str = "float32") -> None:
        """Takes what every extractor takes; there is no network to place."""
        del device, dtype

    def fingerprint(self) -> Mapping[str, object]:
        """Version."""
        return {"name": self.name, "version": self.version}

    def __call__(self, items: Sequence[Item]) -> list[Features | Missing]:
        """The variance of each image."""
        return [{"variance": np.array(laplacian_variance(image_of(item)))} for item in items]
