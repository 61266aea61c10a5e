"""Resampling of images in torch: area averages and bilinear crops."""

import torch
from torch import Tensor


def integral_image(image: Tensor) -> Tensor:
    """Sums of all pixels above and left of each pixel corner, `height+1 width+1 channels`.

    `image` is uint8, `height width channels`. The sums are float64 and exact, so what is made
    from them does not depend on the device or on the order of summation.
    """
    height, width, channels = image.shape
    sums = torch.zeros(height + 1, width + 1, channels, dtype=torch.float64, device=image.device)
    sums[1:, 1:] = image.to(torch.float64).cumsum(0).cumsum(1)
    return sums


def area_average(integral: Tensor, height: int, width: int) -> Tensor:
    """The image shrunk to `height width channels`: each pixel is the mean of the area it covers.

    Pixels on the border of an area count with the fraction that lies inside, as in TensorFlow's
    and OpenCV's area resize.
    """
    rows = _differences(integral, height).transpose(0, 1).contiguous()
    sums = _differences(rows, width).transpose(0, 1).contiguous()
    covered = (integral.shape[0] - 1) * (integral.shape[1] - 1)
    return sums * (height * width / covered)


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


def _differences(cumulative: Tensor, count: int) -> Tensor:
    """Sums over `count` equal parts of dimension 0, from cumulative sums that begin with 0."""
    size = cumulative.shape[0] - 1
    edges = torch.arange(count + 1, dtype=torch.float64, device=cumulative.device) * (size / count)
    below = edges.floor().clamp(max=size - 1)
    index = below.to(torch.int64)
    fraction = (edges - below)[:, None, None]
    at_edges = torch.lerp(cumulative[index], cumulative[index + 1], fraction)
    return at_edges[1:] - at_edges[:-1]


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
