"""Landmarks, head pose and a face descriptor from dlib's networks, for every face of MTCNN.

The weights are those of the `face_recognition_models` wheel. The 68-point model derives from the
300-W data, which excludes commercial use. Section D of the metric specification.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version as installed_version

import numpy as np
from numpy.typing import NDArray

from idbench.metrics.extractors.packaged import (
    DLIB_5_POINTS,
    DLIB_68_POINTS,
    DLIB_RECOGNITION,
    MEAN_SHAPE_68,
    mean_shape_68,
)
from idbench.metrics.pose import euler_degrees, head_rotation
from idbench.metrics.protocol import Features, Item, Missing

FILES = (DLIB_RECOGNITION, DLIB_5_POINTS, DLIB_68_POINTS, MEAN_SHAPE_68)


def dlib_rectangles(boxes: NDArray[np.floating]) -> NDArray[np.int64]:
    """Boxes `n 4` (x1 y1 x2 y2) of MTCNN as the squares that dlib's detector would draw.

    The side is the mean of width and height and the centre lies 0.08 of the height lower; rounded
    to integers.
    """
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    half = (width + height) / 4
    x = (boxes[:, 0] + boxes[:, 2]) / 2
    y = (boxes[:, 1] + boxes[:, 3]) / 2 + 0.08 * height
    corners = np.stack([x - half, y - half, x + half, y + half], axis=1)
    return np.rint(corners).astype(np.int64)


class DlibFace:
    """What dlib says about each face of `mtcnn`, in the same order.

    Features of an image with n faces:

    - `rectangles` (n, 4): x1 y1 x2 y2 given to dlib.
    - `points68` (n, 68, 2): x y of the 68 landmarks, integer pixels, which may lie outside the
      image.
    - `pose` (n, 3): yaw, pitch and roll in degrees, see `idbench.metrics.pose`.
    - `descriptors` (n, 128): face descriptors of norm about 1.4; different people are farther than
      about 0.6 apart.

    dlib runs on the CPU in float32 whatever the device and dtype of the other extractors.
    """

    name = "dlib_face"
    needs = ("mtcnn",)
    reads = "image"
    version = 1

    def __init__(self, *, device: str = "cpu", dtype: str = "float32") -> None:
        """Checks that the weights are installed; they are read by the first call.

        Raises:
            WeightsError: If a wheel that holds weights is not installed.
        """
        for file in FILES:
            file.require()
        self._models: _Models | None = None

    def fingerprint(self) -> Mapping[str, object]:
        """Versions and weights."""
        return {
            "name": self.name,
            "version": self.version,
            "dlib": installed_version("dlib-bin"),
            "weights": [file.sha256 for file in FILES],
        }

    def __call__(self, items: Sequence[Item]) -> list[Features | Missing]:
        """Runs the networks on each face by itself, so that faces do not influence one another."""
        if self._models is None:
            self._models = _Models()
        return [self._models.faces(item) for item in items]


class _Models:
    def __init__(self) -> None:
        import dlib

        self._rectangle = dlib.rectangle
        self._chip = dlib.get_face_chip
        self._points5 = dlib.shape_predictor(str(DLIB_5_POINTS.verified()))
        self._points68 = dlib.shape_predictor(str(DLIB_68_POINTS.verified()))
        self._recognition = dlib.face_recognition_model_v1(str(DLIB_RECOGNITION.verified()))
        self._mean_shape = mean_shape_68()

    def faces(self, item: Item) -> Features:
        if item.image is None:
            raise ValueError("dlib_face reads images, got an item without one")
        image = np.ascontiguousarray(item.image)
        rectangles = dlib_rectangles(item.features["mtcnn"]["boxes"])
        points = np.zeros((len(rectangles), 68, 2), np.int64)
        descriptors = np.zeros((len(rectangles), 128))
        poses = np.zeros((len(rectangles), 3))
        for face, corners in enumerate(rectangles.tolist()):
            rectangle = self._rectangle(*corners)
            shape = self._points68(image, rectangle)
            points[face] = [(point.x, point.y) for point in shape.parts()]
            poses[face] = euler_degrees(head_rotation(points[face], self._mean_shape))
            chip = self._chip(image, self._points5(image, rectangle), 150)
            descriptors[face] = self._recognition.compute_face_descriptor(chip)
        return {
            "rectangles": rectangles,
            "points68": points,
            "pose": poses,
            "descriptors": descriptors,
        }
