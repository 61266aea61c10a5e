"""One pixel frame for a pair: the original follows the edited image, both are cropped alike.

Everything that is exchanged later, masks, attention rows, latents, is exchanged at identical
positions, so a pair must be registered before anything else.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from idbench.methods.editedid.config import EditedIDConfig
from idbench.methods.editedid.faces import Face, Points


class RegistrationError(ValueError):
    """Two faces do not fit on each other well enough to be exchanged by position."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Crop:
    """A square of an image; it may reach over the edges, where the image is mirrored.

    Attributes:
        left: Left edge in pixels.
        top: Upper edge in pixels.
        side: Length of the edges in pixels.
    """

    left: int
    top: int
    side: int

    def cut(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The square of an array (height, width, ...), mirrored beyond the edges."""
        height, width = pixels.shape[:2]
        right, bottom = self.left + self.side, self.top + self.side
        pads = (
            (max(0, -self.top), max(0, bottom - height)),
            (max(0, -self.left), max(0, right - width)),
            *[(0, 0)] * (pixels.ndim - 2),
        )
        padded = np.pad(pixels, pads, mode="reflect")
        top, left = self.top + pads[0][0], self.left + pads[1][0]
        return padded[top : top + self.side, left : left + self.side]

    def image(self, image: Image.Image, resolution: int) -> Image.Image:
        """The square as an image of `resolution` pixels, resampled with an antialiasing filter."""
        cut = Image.fromarray(self.cut(np.asarray(image)))
        if self.side == resolution:
            return cut
        return cut.resize((resolution, resolution), Image.Resampling.LANCZOS)

    def face(self, face: Face, resolution: int) -> Face:
        """A face of the image in pixels of `image(..., resolution)`."""
        scale = resolution / self.side
        shift = -scale * np.array([self.left, self.top])
        return moved(face, np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]]))

    def inside(self, height: int, width: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Where the square meets an image: slices of the image and slices of the square."""
        top, left = max(0, self.top), max(0, self.left)
        bottom, right = min(height, self.top + self.side), min(width, self.left + self.side)
        return (
            (slice(top, bottom), slice(left, right)),
            (
                slice(top - self.top, bottom - self.top),
                slice(left - self.left, right - self.left),
            ),
        )


def face_crop(face: Face, size: tuple[int, int], scale: float) -> Crop:
    """Square around a face, `scale` times its longer side, shifted into the image where it fits.

    Args:
        face: The face.
        size: (width, height) of its image.
        scale: Over the longer side of the box.
    """
    side = max(8, round(scale * face.size))
    corner = []
    for middle, length in zip(face.centre, size, strict=True):
        start = round(middle - side / 2)
        corner.append(min(max(0, start), length - side) if side <= length else (length - side) // 2)
    return Crop(left=corner[0], top=corner[1], side=side)


def center_crop(size: tuple[int, int]) -> Crop:
    """The largest square in the middle, as null-text inversion cuts it."""
    side = min(size)
    return Crop(left=(size[0] - side) // 2, top=(size[1] - side) // 2, side=side)


def similarity(source: Points, target: Points) -> NDArray[np.float64]:
    """Rotation, scale and shift (2, 3) that bring points closest to others (Umeyama 1991).

    Args:
        source: (n, 2).
        target: (n, 2).
    """
    middles = source.mean(0), target.mean(0)
    a, b = source - middles[0], target - middles[1]
    u, singular, vt = np.linalg.svd(b.T @ a / len(a))
    sign = np.array([1.0, math.copysign(1.0, np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ np.diag(sign) @ vt
    linear = (singular @ sign) / a.var(0).sum() * rotation
    return np.hstack([linear, (middles[1] - linear @ middles[0])[:, None]])


def apply(matrix: NDArray[np.float64], points: Points) -> Points:
    """Points (n, 2) under a matrix (2, 3)."""
    moved: Points = points @ matrix[:, :2].T + matrix[:, 2]
    return moved


def landmark_error(points: Points, others: Points, face_size: float) -> float:
    """Root mean squared distance over the size of the face."""
    return float(np.sqrt(((points - others) ** 2).sum(1).mean())) / face_size


@dataclass(frozen=True, kw_only=True, slots=True)
class Registration:
    """How the original comes into the frame of the edited image.

    Attributes:
        size: (width, height) of the edited image.
        face: The original's face in that frame.
        error: Landmark distance that is left, in face sizes; None where it is not known.
        matrix: Similarity (2, 3) from the original's pixels, None for a change of size at most.
    """

    size: tuple[int, int]
    face: Face
    error: float | None = None
    matrix: NDArray[np.float64] | None = None

    def bring(self, image: Image.Image) -> Image.Image:
        """An image in the original's frame, the original itself or a mask, in the other frame."""
        if self.matrix is not None:
            return warp(image, self.matrix, self.size)
        if image.size == self.size:
            return image
        return image.resize(self.size, Image.Resampling.LANCZOS)


def register(
    original_size: tuple[int, int],
    face_o: Face | None,
    size: tuple[int, int],
    face_i: Face,
    config: EditedIDConfig,
) -> Registration:
    """Finds how the original comes into the frame of the edited image.

    It stays as it is where the landmarks already agree. Where its face is not known the pair is
    taken as registered up to the size of the images.

    Args:
        original_size: (width, height) of the original.
        face_o: Its face.
        size: (width, height) of the edited image.
        face_i: The face there.
        config: Thresholds.

    Raises:
        RegistrationError: If the error is above the limit and `force` is off.
    """
    if face_o is None:
        return Registration(size=size, face=face_i)
    points = [face_o.points, face_i.points]
    if len(points[0]) != len(points[1]):  # landmarks on one side, a box on the other
        points = [Face(box=face.box).points for face in (face_o, face_i)]
    if original_size == size:
        error = landmark_error(points[0], points[1], face_i.size)
        if error < config.registration_skip:
            return Registration(size=size, face=face_o, error=error)
    matrix = similarity(points[0], points[1])
    error = landmark_error(apply(matrix, points[0]), points[1], face_i.size)
    if error > config.registration_limit and not config.force:
        raise RegistrationError(
            f"after registration the landmarks of the two faces differ by {error:.1%} of the face "
            f"size, more than {config.registration_limit:.0%}: the poses differ too much to "
            "exchange features by position; set force=True to restore all the same"
        )
    return Registration(size=size, face=moved(face_o, matrix), error=error, matrix=matrix)


def moved(face: Face, matrix: NDArray[np.float64]) -> Face:
    """A face under a similarity; the box is that of its moved corners."""
    corners = apply(matrix, Face(box=face.box).points)
    (x0, y0), (x1, y1) = corners.min(0).tolist(), corners.max(0).tolist()
    landmarks = None if face.landmarks is None else apply(matrix, face.landmarks)
    return Face(box=(x0, y0, x1, y1), landmarks=landmarks, embedding=face.embedding)


def warp(image: Image.Image, matrix: NDArray[np.float64], size: tuple[int, int]) -> Image.Image:
    """An image under a similarity, on a canvas of `size`; antialiased where it shrinks."""
    scale = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if scale < 1.0:
        reduced = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        ratio = np.array(image.size) / np.array(reduced)
        image = image.resize(reduced, Image.Resampling.LANCZOS)
        matrix = matrix @ np.diag([*ratio, 1.0])
    inverse = np.linalg.inv(np.vstack([matrix, [0.0, 0.0, 1.0]]))[:2]
    return image.transform(
        size, Image.Transform.AFFINE, tuple(inverse.ravel()), Image.Resampling.BICUBIC
    )
