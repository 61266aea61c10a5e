"""Resampling of images in torch: area averages and bilinear crops."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


def area_average(columns: Tensor, height: int, width: int) -> Tensor:
    """An image shrunk to `height width channels`: each pixel is the mean of the area it covers.

    Pixels on the border of an area count with the fraction that lies inside. Equal, bit for bit,
    to TensorFlow's `tf.image.resize(method="area")` of the same float32 image, whose order of
    summation and float32 fractions are kept: P-Net feels differences in the fifth digit.

    Args:
        columns: The image, float32, with its axes swapped: `width height channels`.
        height: Rows of the result.
        width: Columns of the result.
    """
    rows, x_step = _area_sums(columns, width)
    sums, y_step = _area_sums(rows.transpose(0, 1).contiguous(), height)
    return sums * float(np.float32(1) / (x_step * y_step))


def bilinear_crops(image: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Crops `boxes channels side side`, corners of a box on the corner pixels of its crop.

    `image` is `height width channels`. `boxes` is `boxes 4`, rows `x1 y1 x2 y2`, with coordinates
    that count a pixel as width/(width-1) wide, as TensorFlow's crop_and_resize with boxes divided
    by the image size: sample k of a row lies at x1 (W-1)/W + k (x2-x1)(W-1)/(W (side-1)). Samples
    outside the image are 0. Positions are float32, rounded where TensorFlow rounds them.
    """
    height, width, channels = image.shape
    left, right, across, x_inside = _samples(boxes[:, 0], boxes[:, 2], side, width)
    top, bottom, down, y_inside = _samples(boxes[:, 1], boxes[:, 3], side, height)
    pixels = image.reshape(-1, channels)

    def row(y: Tensor) -> Tensor:
        start = (y * width)[:, :, None]
        a = pixels[start + left[:, None, :]]
        b = pixels[start + right[:, None, :]]
        return a + (b - a) * across[:, None, :, None]

    upper, lower = row(top), row(bottom)
    crops = upper + (lower - upper) * down[:, :, None, None]
    crops = crops * (y_inside[:, :, None, None] & x_inside[:, None, :, None])
    return crops.permute(0, 3, 1, 2)


def _area_sums(image: Tensor, count: int) -> tuple[Tensor, np.float32]:
    """Sums over `count` equal parts of dimension 0, and how many pixels long a part is."""
    pixels, weights, step = _area_taps(image.shape[0], count, image.device)
    sums = image[pixels[0]] * weights[0]
    for pixel, weight in zip(pixels[1:], weights[1:], strict=True):
        sums.add_(image[pixel] * weight)
    return sums, step


@lru_cache(maxsize=512)
def _area_taps(size: int, count: int, device: torch.device) -> tuple[Tensor, Tensor, np.float32]:
    """Which pixels a part consists of (`taps count`) and the fraction of each that lies inside.

    Kept, because the images of a suite share few sizes and each copy to a device waits for it.
    """
    step = np.float32(np.float32(size) / np.float32(count))
    low = np.arange(count, dtype=np.float32) * step
    high = np.arange(1, count + 1, dtype=np.float32) * step
    first, stop = np.floor(low).astype(np.int64), np.ceil(high).astype(np.int64)
    pixel = first + np.arange((stop - first).max())[:, None]
    start, end = pixel.astype(np.float32), (pixel + 1).astype(np.float32)
    begins_here = np.where(end > high, step, end - low)
    began_before = np.where(end > high, high - start, np.float32(1))
    weight = np.where(start < low, begins_here, began_before)
    weight = np.where(pixel < stop, weight, np.float32(0)).astype(np.float32)
    index = torch.from_numpy(np.minimum(pixel, size - 1))
    return index.to(device), torch.from_numpy(weight)[:, :, None, None].to(device), step


def _samples(
    low: Tensor, high: Tensor, side: int, size: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Neighbours below and above, weight of the latter, and whether inside; each `boxes side`."""
    low, high = (low / size).float(), (high / size).float()
    step = (high - low) * (size - 1) / (side - 1)
    ticks = torch.arange(side, dtype=torch.float32, device=low.device)
    position = low[:, None] * (size - 1) + ticks * step[:, None]
    inside = (position >= 0) & (position <= size - 1)
    position = position.clamp(0, size - 1)
    below = position.floor()
    return below.long(), position.ceil().long(), position - below, inside
