"""`warp`: the same person with a slightly different face, another one for every seed."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import map_coordinates

from idbench.methods.baselines.baseline import UNSEEDED, Baseline, check_range
from idbench.methods.baselines.photos import Photo
from idbench.methods.baselines.sampling import resample
from idbench.methods.protocol import Capabilities

# Knots lie half a face apart, so eyes, mouth and jaw move apart from one another. Folds cannot
# occur below a quarter of that distance: the derivative of a cubic B-spline is at most twice the
# largest knot over the distance along each axis, and both together must stay below 1.
KNOT_DISTANCE = 0.5
MAX_STRENGTH = 0.12


@dataclass(frozen=True, kw_only=True, slots=True)
class Warp(Baseline):
    """Moves pixels along a smooth random field: face shape and expression change, texture stays.

    Between the corners: landmarks move, which metrics of editability reward, at a moderate price
    in preservation. The only baseline besides `noise` whose answer depends on the seed.

    Attributes:
        strength: Largest shift as a share of the size of the face (the mean side of its box; half
            the shorter side of the image where no box is known), in [0, 0.12].
    """

    strength: float = 0.1

    name: ClassVar[str] = "warp"

    def __post_init__(self) -> None:
        """Checks the parameters."""
        check_range("strength", self.strength, 0.0, MAX_STRENGTH)

    @property
    def capabilities(self) -> Capabilities:
        """Every seed is another warp."""
        return replace(UNSEEDED, uses_seed=self.strength > 0)

    def change(self, photo: Photo, generator: np.random.Generator) -> Image.Image:
        """The photograph warped (bilinear)."""
        width, height = photo.image.size
        size, middle_x, middle_y = _face(photo)
        distance = max(size * KNOT_DISTANCE, 2.0, max(width, height) / 256)
        first_x, knots_x = _grid(width, middle_x, distance)
        first_y, knots_y = _grid(height, middle_y, distance)
        angles = generator.uniform(0.0, 2 * np.pi, (knots_y, knots_x))
        knots = np.stack([np.sin(angles), np.cos(angles)]) * self.strength * size

        def places(rows: NDArray[Any], columns: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
            where = np.stack(
                [(rows - middle_y) / distance - first_y, (columns - middle_x) / distance - first_x]
            )
            # Without the prefilter the knots are B-spline coefficients: every shift is a convex
            # combination of knots, all of one length, and cannot be longer.
            shifts = [
                map_coordinates(axis, where, order=3, mode="nearest", prefilter=False)
                for axis in knots
            ]
            return rows + shifts[0], columns + shifts[1]

        return resample(photo.image, places)


def _face(photo: Photo) -> tuple[float, float, float]:
    """Size and centre (x, y) of what is warped, in pixels."""
    width, height = photo.image.size
    if photo.face_box is None:
        return min(width, height) / 2, (width - 1) / 2, (height - 1) / 2
    x0, y0, x1, y1 = photo.face_box
    return max((x1 - x0 + y1 - y0) / 2, 1.0), (x0 + x1) / 2, (y0 + y1) / 2


def _grid(length: int, middle: float, distance: float) -> tuple[int, int]:
    """Index of the first knot relative to the middle, and how many knots cover the axis."""
    first = int(np.floor(-middle / distance)) - 2
    last = int(np.ceil((length - 1 - middle) / distance)) + 2
    return first, last - first + 1
