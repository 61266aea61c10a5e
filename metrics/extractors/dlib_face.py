"""Landmarks, head pose and a face descriptor from dlib's networks, for every face of MTCNN.

The weights are those of the `face_recognition_models` wheel. The 68-point model derives from the
300-W data, which excludes commercial use. Section D of the metric specification.

dlib's predictors expect upright faces in a well-placed square, and fail silently on others: of the
seven faces of the demo, the plain recipe of the specification lost one at a roll of 40 degrees
(similarity 0.44 to itself) and moved the yaw of another by 24 degrees when the picture was
recompressed. So each face is first turned upright by its eyes, and 27 squares are placed by
MTCNN's five points, which move less than its boxes do. Of the 27 fits the half that agrees best
with the five points is kept, landmark by landmark their median. Over 19 transforms of seven faces
(rolls to 40 degrees, half size, padding, mirror, blur, brightness, JPEG) the mean error of yaw,
pitch and roll falls from 2.8, 1.7 and 4.2 degrees to 0.8, 0.6 and 0.6. `upright=False` is the
plain recipe.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed_version

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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

# Placements of the square for the 68 points: sizes and shifts in shares of its side. The side is
# SIDE times the span of the five points, the centre DROP spans below their middle.
SIDE = 2.5
DROP = 0.15
SCALES = (0.9, 1.0, 1.1)
SHIFTS = (-0.12, 0.0, 0.12)
KEPT = 13  # of the 27 fits; those that go astray are seldom the majority of these
PATCH = 3.0  # side of the upright patch in sides of the square: room for every placement


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
    - `points68` (n, 68, 2): x y of the 68 landmarks in pixels, which may lie outside the image;
      whole numbers for `upright=False`.
    - `pose` (n, 3): yaw, pitch and roll in degrees, see `idbench.metrics.pose`.
    - `descriptors` (n, 128): face descriptors of norm about 1.4; different people are farther than
      about 0.6 apart.

    dlib runs on the CPU in float32 whatever the device and dtype of the other extractors.
    """

    name = "dlib_face"
    needs = ("mtcnn",)
    reads = "image"
    version = 3

    def __init__(
        self, *, device: str = "cpu", dtype: str = "float32", upright: bool = True
    ) -> None:
        """Checks that the weights are installed; they are read by the first call.

        `upright` turns each face upright by its eyes first; False is the recipe of section D.

        Raises:
            WeightsError: If a wheel that holds weights is not installed.
        """
        for file in FILES:
            file.require()
        self._upright = upright
        self._models: _Models | None = None

    def fingerprint(self) -> Mapping[str, object]:
        """Versions and weights."""
        return {
            "name": self.name,
            "version": self.version,
            "upright": self._upright,
            "dlib": installed_version("dlib-bin"),
            "weights": [file.sha256 for file in FILES],
        }

    def __call__(self, items: Sequence[Item]) -> list[Features | Missing]:
        """Runs the networks on each face by itself, so that faces do not influence one another."""
        if self._models is None:
            self._models = _Models(self._upright)
        return [self._models.faces(item) for item in items]


class _Models:
    def __init__(self, upright: bool) -> None:
        import dlib

        self._upright = upright
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
        boxes, five = item.features["mtcnn"]["boxes"], item.features["mtcnn"]["points"]
        rectangles = dlib_rectangles(boxes)
        points = np.zeros((len(boxes), 68, 2))
        descriptors = np.zeros((len(boxes), 128))
        poses = np.zeros((len(boxes), 3))
        for face in range(len(boxes)):
            if self._upright:
                patch = upright_patch(image, boxes[face], five[face])
                points[face] = patch.to_image(self._agreeing_landmarks(patch))
                pixels, square = patch.pixels, dlib_rectangles(patch.box[None])[0]
            else:
                pixels, square = image, rectangles[face]
                points[face] = self._landmarks(pixels, square)
            poses[face] = euler_degrees(head_rotation(points[face], self._mean_shape))
            shape = self._points5(pixels, self._rectangle(*square.tolist()))
            chip = self._chip(pixels, shape, 150)
            descriptors[face] = self._recognition.compute_face_descriptor(chip)
        return {
            "rectangles": rectangles,
            "points68": points,
            "pose": poses,
            "descriptors": descriptors,
        }

    def _landmarks(
        self, pixels: NDArray[np.uint8], square: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        shape = self._points68(pixels, self._rectangle(*square.tolist()))
        return np.array([(point.x, point.y) for point in shape.parts()], np.float64)

    def _agreeing_landmarks(self, patch: "UprightPatch") -> NDArray[np.float64]:
        fits = np.stack([self._landmarks(patch.pixels, square) for square in patch.placements()])
        misfit = np.linalg.norm(five_of_68(fits) - patch.five, axis=-1).mean(-1)
        best = np.argsort(misfit, kind="stable")[:KEPT]
        return np.median(fits[best], axis=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class UprightPatch:
    """A square of an image around a face, turned so that the eyes are level.

    `box` (x1 y1 x2 y2) and `five` (5, 2) are the face's in pixels of the patch.
    """

    pixels: NDArray[np.uint8]
    box: NDArray[np.float64]
    five: NDArray[np.float64]
    corner: NDArray[np.float64]
    turn: NDArray[np.float64]

    def to_image(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (n, 2) of the patch in pixels of the image."""
        middle = (np.array(self.pixels.shape[1::-1]) - 1) / 2
        turned: NDArray[np.float64] = (points - middle) @ self.turn.T + middle + self.corner
        return turned

    def placements(self) -> Iterator[NDArray[np.int64]]:
        """The squares in which dlib looks for 68 points."""
        eyes, mouth = self.five[:2].mean(axis=0), self.five[3:].mean(axis=0)
        # In profile the eyes come close together and the mouth stays away, looking down it is the
        # other way round.
        span = max(np.linalg.norm(mouth - eyes), np.linalg.norm(self.five[1] - self.five[0]))
        x, y = (eyes + mouth) / 2 + np.array([0, DROP * span])
        side = SIDE * span
        for scale in SCALES:
            for shift_x in SHIFTS:
                for shift_y in SHIFTS:
                    middle = np.array([x + shift_x * side, y + shift_y * side])
                    half = scale * side / 2
                    yield np.rint(np.concatenate([middle - half, middle + half])).astype(np.int64)


def upright_patch(
    image: NDArray[np.uint8], box: NDArray[np.floating], five: NDArray[np.floating]
) -> UprightPatch:
    """The surroundings of a face, black outside the image, turned about the middle of its box.

    `box` is x1 y1 x2 y2 and `five` are the points of MTCNN (5, 2), left eye and right eye first.
    """
    across, down = five[1] - five[0]
    angle = float(np.arctan2(down, across))
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])  # from the patch to the image, y down
    middle = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    size = np.array([box[2] - box[0], box[3] - box[1]])
    half = int(np.ceil(PATCH * size.mean() / 2))
    corner = np.rint(middle).astype(int) - half
    area = (corner[0], corner[1], corner[0] + 2 * half + 1, corner[1] + 2 * half + 1)
    patch = Image.fromarray(image).crop(area)
    patch = patch.rotate(float(np.degrees(angle)), resample=Image.Resampling.BICUBIC)
    # The patch turns about its middle pixel, `half`; the box keeps its size and its offset.
    centre = (middle - corner - half) @ turn + half
    return UprightPatch(
        pixels=np.array(patch),
        box=np.concatenate([centre - size / 2, centre + size / 2]),
        five=(five - corner - half) @ turn + half,
        corner=corner.astype(np.float64),
        turn=turn,
    )


def five_of_68(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """MTCNN's five points (..., 5, 2) from 68 landmarks: eye centres, nose tip, mouth corners."""
    eyes = points[..., 36:42, :].mean(-2), points[..., 42:48, :].mean(-2)
    return np.stack([*eyes, points[..., 30, :], points[..., 48, :], points[..., 54, :]], axis=-2)
