"""SCRFD face detection with five landmarks, from the ONNX files of insightface's packs.

Sample and Computation Redistribution for Efficient Face Detection (arXiv 2105.04714). The
arithmetic follows insightface 2.1 at one detection size; it is checked against that package.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from idbench.metrics.extractors.onnx_network import OnnxNetwork

DETECTION_SIZE = 640
SCORE_THRESHOLD = 0.5
NMS_THRESHOLD = 0.4
STRIDES = (8, 16, 32)
ANCHORS_PER_CELL = 2

Array = NDArray[np.float32]


def letterbox(image: NDArray[np.uint8], size: int) -> tuple[NDArray[np.uint8], float]:
    """The image in the top left corner of a black square, as large as fits, and its scale."""
    height, width = image.shape[:2]
    if height > width:
        new_height, new_width = size, int(size / (height / width))
    else:
        new_width, new_height = size, int(size * (height / width))
    square = np.zeros((size, size, 3), np.uint8)
    square[:new_height, :new_width] = cv2.resize(image, (new_width, new_height))
    return square, new_height / height


def anchor_centres(size: int, stride: int) -> Array:
    """Centres `n 2` of the anchors of one level, row by row, each cell's anchors together."""
    cells = np.arange(size // stride, dtype=np.float32) * stride
    x, y = np.meshgrid(cells, cells)
    return np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), ANCHORS_PER_CELL, axis=0)


def greedy_nms(boxes: Array, scores: Array, threshold: float) -> list[int]:
    """Indices of the boxes kept, by falling score: none overlaps a kept one by more.

    Overlap is intersection over union with inclusive edges (one pixel added to each side).
    """
    x1, y1, x2, y2 = boxes.T
    areas = (x2 - x1 + 1) * (y2 - y1 + 1)
    order = np.argsort(-scores, kind="stable")
    kept = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(int(best))
        width = np.minimum(x2[best], x2[rest]) - np.maximum(x1[best], x1[rest]) + 1
        height = np.minimum(y2[best], y2[rest]) - np.maximum(y1[best], y1[rest]) + 1
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        order = rest[shared / (areas[best] + areas[rest] - shared) <= threshold]
    return kept


class SCRFD:
    """Detects faces in one image at a time.

    Args:
        network: The detector of a pack: three strides, two anchors per cell, five points.
        size: Side of the square that the image is fitted into, a multiple of 32.
        threshold: Lowest score of a face.
    """

    def __init__(
        self,
        network: OnnxNetwork,
        *,
        size: int = DETECTION_SIZE,
        threshold: float = SCORE_THRESHOLD,
    ) -> None:
        """Keeps the arguments; the network is opened by the first image."""
        if size % STRIDES[-1]:
            raise ValueError(f"size must be a multiple of {STRIDES[-1]}, got {size}")
        self._network = network
        self._size = size
        self._threshold = threshold

    def __call__(self, image: NDArray[np.uint8]) -> tuple[Array, Array, Array]:
        """Faces of an RGB image by falling score, in its pixels.

        Returns:
            Boxes x1 y1 x2 y2 (`n 4`, not clipped), scores (`n`), points x y (`n 5 2`): left eye,
            right eye, nose, left and right mouth corner as seen in the image.

        Raises:
            ValueError: If the network has not the nine outputs of a detector with points.
        """
        square, scale = letterbox(image, self._size)
        pixels = square.astype(np.float32).transpose(2, 0, 1)[None]
        outputs = self._network.run((pixels - np.float32(127.5)) / np.float32(128))
        if len(outputs) != 3 * len(STRIDES):
            raise ValueError(
                f"{self._network.path} has {len(outputs)} outputs; an SCRFD detector with points "
                f"has {3 * len(STRIDES)}"
            )
        # Graphs with a batch axis give `1 n c`, those without `n c`.
        flat = [output.reshape(-1, output.shape[-1]) for output in outputs]
        boxes, scores, points = [], [], []
        for level, stride in enumerate(STRIDES):
            score, box, point = flat[level], flat[level + 3] * stride, flat[level + 6] * stride
            found = np.where(score >= self._threshold)[0]
            centre = anchor_centres(self._size, stride)[found]
            near, far = centre - box[found, :2], centre + box[found, 2:]
            boxes.append(np.hstack([near, far]))
            points.append(centre[:, None, :] + point[found].reshape(-1, 5, 2))
            scores.append(score[found, 0])
        score_all = np.concatenate(scores)
        order = np.argsort(-score_all, kind="stable")
        box_all = (np.concatenate(boxes) / scale).astype(np.float32)[order]
        point_all = (np.concatenate(points) / scale).astype(np.float32)[order]
        score_all = score_all[order].astype(np.float32)
        kept = greedy_nms(box_all, score_all, NMS_THRESHOLD)
        return box_all[kept], score_all[kept], point_all[kept]
