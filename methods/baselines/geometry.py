"""`crop`, `mirror`, `rotate`: the same person, framed or turned within the image plane."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from idbench.methods.baselines.baseline import Baseline, check_range
from idbench.methods.baselines.layout import FACE_MARGIN
from idbench.methods.baselines.photos import Photo
from idbench.methods.baselines.sampling import resample


@dataclass(frozen=True, kw_only=True, slots=True)
class Crop(Baseline):
    """Cuts `margin` of the width and height off each side and enlarges the rest to the same size.

    Near the corner of `copy`: aligned face metrics barely move, metrics of the whole image
    (CLIP-I, DINO) do. The window moves as far as needed to keep a known face inside.

    Attributes:
        margin: Share of a side, in [0, 0.45]; 0 cuts nothing.
    """

    margin: float = 0.15

    name: ClassVar[str] = "crop"

    def __post_init__(self) -> None:
        """Checks the parameters."""
        check_range("margin", self.margin, 0.0, 0.45)

    def change(self, photo: Photo, generator: np.random.Generator) -> Image.Image:
        """The inner part of the photograph, enlarged (Lanczos)."""
        width, height = photo.image.size
        face = photo.face_box or (width / 2, height / 2, width / 2, height / 2)
        x0, x1 = _kept(width, self.margin, face[0], face[2])
        y0, y1 = _kept(height, self.margin, face[1], face[3])
        return photo.image.resize((width, height), Image.Resampling.LANCZOS, box=(x0, y0, x1, y1))


@dataclass(frozen=True, kw_only=True, slots=True)
class Mirror(Baseline):
    """Mirrors left and right.

    Preservation stays high, since faces are nearly symmetric, and yaw and roll change sign: the
    cheapest editability there is, and the test that pose metrics know left from right. Several
    people keep their places and are mirrored each in theirs.
    """

    name: ClassVar[str] = "mirror"

    def change(self, photo: Photo, generator: np.random.Generator) -> Image.Image:
        """The photograph mirrored."""
        return ImageOps.mirror(photo.image)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rotate(Baseline):
    """Rotates about the centre; positive is counter-clockwise as one looks at the image.

    Roll changes by the angle and everything a person would call identity stays: apparent
    editability without an edit. The canvas keeps its size; corners repeat the edge pixels, and
    what turns out of the frame is lost (a face near the border, a long image at 90 degrees).

    Attributes:
        degrees: The angle, in [-360, 360]; 90 equals `numpy.rot90` on a square image.
    """

    degrees: float = 15.0

    name: ClassVar[str] = "rotate"

    def __post_init__(self) -> None:
        """Checks the parameters."""
        check_range("degrees", self.degrees, -360.0, 360.0)

    def change(self, photo: Photo, generator: np.random.Generator) -> Image.Image:
        """The photograph rotated (bilinear)."""
        width, height = photo.image.size
        middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
        cos, sin = np.cos(np.radians(self.degrees)), np.sin(np.radians(self.degrees))

        def places(rows: NDArray[Any], columns: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
            y, x = rows - middle_y, columns - middle_x
            return x * sin + y * cos + middle_y, x * cos - y * sin + middle_x

        return resample(photo.image, places)


def _kept(length: int, margin: float, face_start: float, face_end: float) -> tuple[float, float]:
    """The window of one axis: centred, then moved to hold the face and a margin around it."""
    window = length * (1 - 2 * margin)
    start = length * margin
    around = (face_end - face_start) * FACE_MARGIN / 2
    face_start, face_end = face_start - around, face_end + around
    if face_end - face_start >= window:
        start = (face_start + face_end - window) / 2
    else:
        start = min(max(start, face_end - window), face_start)
    start = min(max(start, 0.0), length - window)
    return start, start + window
