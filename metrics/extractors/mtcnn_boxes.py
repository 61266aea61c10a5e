"""Box arithmetic of MTCNN as the `mtcnn` package 1.0.0 does it (MIT licence), in float64.

Boxes are rows `x1 y1 x2 y2` in pixels. The order of the steps and their small oddities are kept,
because detections and their order must equal those of the package.
"""

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]

MIN_FACE_SIZE = 20
SCALE_FACTOR = 0.709
CELL = 12  # P-Net sees 12 x 12 pixels
STRIDE = 2

_BLOCK = 512


def pyramid_scales(height: int, width: int) -> list[float]:
    """Scales of the image pyramid; empty for an image too small to hold a face."""
    levels = -(np.log(min(height, width) / CELL) / np.log(SCALE_FACTOR) + 1)
    scales: NDArray[np.float64] = SCALE_FACTOR ** np.arange(max(round(levels), 0))
    return [float(scale) for scale in CELL / MIN_FACE_SIZE * scales]


def cell_boxes(
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    offsets: NDArray[np.floating],
    scales: NDArray[np.float64],
) -> Boxes:
    """Boxes in image pixels of P-Net cells; `offsets` (`n 4`) are fractions of the cell size."""
    corner = np.stack([columns, rows, columns, rows], axis=1) * STRIDE
    corner = corner + np.array([1, 1, CELL, CELL])
    boxes: Boxes = (corner + offsets.astype(np.float64) * (CELL - 1)) / scales[:, None]
    return boxes


def descending(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """Order by falling score; of equal scores the later comes first, as a reversed sort gives."""
    return np.argsort(scores, kind="stable")[::-1]


def unsuppressed(boxes: Boxes, threshold: float, *, relative_to_smaller: bool) -> NDArray[np.int64]:
    """Indices of boxes, sorted by falling score, that no earlier box overlaps too much.

    A box that is itself suppressed still suppresses others: unlike usual non-maximum suppression
    this one is not greedy. Overlap is intersection over union, or over the smaller area.
    """
    left, top, right, bottom = np.ascontiguousarray(boxes.T)
    area = (right - left) * (bottom - top)
    keep = np.ones(len(boxes), bool)
    for start in range(0, len(boxes), _BLOCK):  # blocks bound the memory of the pair matrix
        stop = min(start + _BLOCK, len(boxes))
        low = np.maximum(left[start:stop, None], left[:stop])
        width = np.maximum(np.minimum(right[start:stop, None], right[:stop]) - low, 0)
        low = np.maximum(top[start:stop, None], top[:stop])
        height = np.maximum(np.minimum(bottom[start:stop, None], bottom[:stop]) - low, 0)
        intersection = width * height
        if relative_to_smaller:
            denominator = np.minimum(area[start:stop, None], area[None, :stop])
        else:
            denominator = area[start:stop, None] + area[None, :stop] - intersection
        with np.errstate(divide="ignore", invalid="ignore"):  # an empty box overlaps nothing
            overlapping = intersection / denominator > threshold
        keep[start:stop] = ~np.tril(overlapping, k=start - 1).any(axis=1)
    return np.flatnonzero(keep)


def squared(boxes: Boxes) -> Boxes:
    """Boxes widened about their centre to squares of their longer side."""
    width = boxes[:, 2] - boxes[:, 0]
    height = boxes[:, 3] - boxes[:, 1]
    side = np.maximum(width, height)
    left = boxes[:, 0] + width * 0.5 - side * 0.5
    top = boxes[:, 1] + height * 0.5 - side * 0.5
    return np.stack([left, top, left + side, top + side], axis=1)


def refined(boxes: Boxes, offsets: NDArray[np.floating]) -> Boxes:
    """Boxes moved by offsets (`n 4`) in units of width + 1 and height + 1."""
    width = boxes[:, 2] - boxes[:, 0] + 1
    height = boxes[:, 3] - boxes[:, 1] + 1
    return boxes + offsets.astype(np.float64) * np.stack([width, height, width, height], axis=1)


def face_points(boxes: Boxes, landmarks: NDArray[np.floating]) -> NDArray[np.float64]:
    """Points `n 5 2` from O-Net's ten numbers (five x, five y) relative to the unrefined boxes."""
    size = boxes[:, 2:] - boxes[:, :2] + 1
    relative = landmarks.astype(np.float64).reshape(-1, 2, 5).transpose(0, 2, 1)
    points: NDArray[np.float64] = size[:, None] * relative + boxes[:, None, :2] - 1
    return points


def clipped(boxes: Boxes, height: int, width: int) -> Boxes:
    """Boxes with every corner moved into [0, width - 1] x [0, height - 1]."""
    return np.clip(boxes, 0, [width - 1, height - 1, width - 1, height - 1]).astype(np.float64)


def rounded_xywh(boxes: Boxes) -> NDArray[np.int64]:
    """Boxes as the package prints them: integers `x y width height`, each rounded by itself."""
    xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    rounded: NDArray[np.int64] = np.rint(xywh).astype(np.int64)
    return rounded
