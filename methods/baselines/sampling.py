"""Photographs read at other places: the one resampler of `rotate` and `warp`."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import map_coordinates

Places = Callable[[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]

_BAND_PIXELS = 2**20  # bounds the memory of coordinates on large photographs


def resample(image: Image.Image, places: Places) -> Image.Image:
    """An image of the same size whose pixel (y, x) is the photograph at `places(y, x)`.

    Bilinear; beyond the photograph its edge pixels repeat. Coordinates are those of pixel centres,
    so (0, 0) is the first pixel. `places` is asked for whole bands of rows, `band width` arrays.
    """
    pixels = np.asarray(image)
    height, width = pixels.shape[:2]
    changed = np.empty_like(pixels)
    band = max(1, _BAND_PIXELS // width)
    for start in range(0, height, band):
        stop = min(start + band, height)
        rows, columns = np.mgrid[start:stop, 0:width].astype(np.float64)
        where = np.stack(places(rows, columns))
        for channel in range(3):
            read = map_coordinates(
                pixels[:, :, channel], where, output=np.float64, order=1, mode="nearest"
            )
            changed[start:stop, :, channel] = np.rint(read).clip(0, 255)
    return Image.fromarray(changed)
