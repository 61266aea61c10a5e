"""Pictures as arrays, and the byte-deterministic files (Netpbm) in which derived ones are kept."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from idbench.prompts.cases import File
from idbench.prompts.sources import resolve

Picture = NDArray[np.uint8]  # height x width x 3, RGB
Mask = NDArray[np.bool_]  # height x width
Colour = tuple[int, int, int]

SUPERSAMPLING = 4

# Read in place from installed packages, never copied. astronaut.png (NASA) and rocket.jpg are in
# the public domain, chelsea.png and coffee.png are CC0; t1.jpg is a publicity photograph without a
# stated licence, of which six faces are cut out on the user's machine.
PHOTOGRAPHS: dict[str, File] = {
    file.path.split(".")[0]: file
    for file in (
        File(
            path="astronaut.png",
            sha256="88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
            source="scikit-image",
        ),
        File(
            path="chelsea.png",
            sha256="596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
            source="scikit-image",
        ),
        File(
            path="coffee.png",
            sha256="cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
            source="scikit-image",
        ),
        File(
            path="rocket.jpg",
            sha256="c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
            source="scikit-image",
        ),
        File(
            path="t1.jpg",
            sha256="47f682e945b659f93a9e490b9c9c4a2a864abe64dace9e1a2893845ddfd69489",
            source="insightface",
        ),
    )
}


def photograph(name: str, data_root: Path) -> Picture:
    """The pixels of one of `PHOTOGRAPHS`, after its sha256 was checked."""
    file = PHOTOGRAPHS[name]
    with Image.open(resolve(file, file.source or "", data_root)) as image:
        return np.asarray(image.convert("RGB"))


def netpbm(picture: Picture | Mask) -> bytes:
    """A picture as PPM or a mask as PGM (255 where true): uncompressed, so equal bytes anywhere."""
    height, width = picture.shape[:2]
    if picture.dtype == np.bool_:
        pixels = np.where(picture, 255, 0).astype(np.uint8)
        return b"P5\n%d %d\n255\n" % (width, height) + pixels.tobytes()
    return b"P6\n%d %d\n255\n" % (width, height) + np.ascontiguousarray(picture).tobytes()


@dataclass(frozen=True, kw_only=True, slots=True)
class Ellipse:
    """An axis-parallel ellipse in pixels."""

    x: float
    y: float
    rx: float
    ry: float

    def at(self, x: float, y: float, rx: float, ry: float) -> "Ellipse":
        """An ellipse in the coordinates of this one: its centre is (0, 0), its radii are 1."""
        return Ellipse(
            x=self.x + x * self.rx, y=self.y + y * self.ry, rx=rx * self.rx, ry=ry * self.ry
        )

    def mask(self, height: int, width: int) -> Mask:
        """Pixels of a picture whose centre is inside."""
        result = np.zeros((height, width), dtype=np.bool_)
        rows, columns, inside = self._inside(height, width, 1)
        result[rows, columns] = inside
        return result

    def paint(self, canvas: Picture, colour: Colour, *, scale: int = 1) -> None:
        """Fills the ellipse on a canvas that is `scale` times as fine as its coordinates."""
        height, width = canvas.shape[0], canvas.shape[1]
        rows, columns, inside = self._inside(height, width, scale)
        canvas[rows, columns][inside] = colour

    def _inside(self, height: int, width: int, scale: int) -> tuple[slice, slice, Mask]:
        # Twice the coordinates: the centre of pixel i is at 2 i + 1. After the rounding all is
        # whole-number arithmetic, so the result is the same on every machine.
        cx, cy = round(2 * scale * self.x), round(2 * scale * self.y)
        rx, ry = max(1, round(2 * scale * self.rx)), max(1, round(2 * scale * self.ry))
        columns = slice(max(0, (cx - rx) // 2 - 1), max(0, min(width, (cx + rx) // 2 + 1)))
        rows = slice(max(0, (cy - ry) // 2 - 1), max(0, min(height, (cy + ry) // 2 + 1)))
        dx = 2 * np.arange(columns.start, columns.stop, dtype=np.int64) + 1 - cx
        dy = 2 * np.arange(rows.start, rows.stop, dtype=np.int64) + 1 - cy
        inside: Mask = (dx[None, :] * ry) ** 2 + (dy[:, None] * rx) ** 2 <= (rx * ry) ** 2
        return rows, columns, inside


def enlarged(picture: Picture) -> Picture:
    """Every pixel repeated `SUPERSAMPLING` times in both directions: a canvas to draw on."""
    return picture.repeat(SUPERSAMPLING, axis=0).repeat(SUPERSAMPLING, axis=1)


def reduced(canvas: Picture) -> Picture:
    """The inverse of `enlarged`, by the rounded mean; untouched pixels come back unchanged."""
    s = SUPERSAMPLING
    height, width = canvas.shape[0] // s, canvas.shape[1] // s
    cells = canvas.reshape(height, s, width, s, 3).astype(np.int64).sum(axis=(1, 3))
    means: Picture = ((cells + s * s // 2) // (s * s)).astype(np.uint8)
    return means


def blurred(picture: Picture, radius: int) -> Picture:
    """Three box blurs of (2 radius + 1) pixels in whole numbers, close to a Gaussian."""
    size = 2 * radius + 1
    result = picture.astype(np.int64)
    for _ in range(3):
        for axis in (0, 1):
            margins = [(0, 0)] * 3
            margins[axis] = (radius + 1, radius)
            sums = np.pad(result, margins, mode="edge").cumsum(axis=axis)
            length = result.shape[axis]
            upper = sums.take(range(size, size + length), axis=axis)
            lower = sums.take(range(length), axis=axis)
            result = (upper - lower + size // 2) // size
    return result.astype(np.uint8)
