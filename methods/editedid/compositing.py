"""Restored faces back into the edited image, with a soft edge that changes nothing beyond it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.sparse import csr_array
from scipy.sparse.linalg import cg

from idbench.methods.editedid.masks import Mask, mask_image
from idbench.methods.editedid.registration import Crop

# Shares of the side of the crop; chosen here, the paper only asks for smooth boundaries.
MATTE_SIGMA, RING_WIDTH = 0.02, 0.04
# Alpha below this moves no 8-bit channel by a whole step, and is taken as none.
_NO_ALPHA = 1.0 / 512.0

# (image, mask of what to paint over, seed) -> image of the same size
Inpainter = Callable[[Image.Image, Image.Image, int], Image.Image]
_Pixels = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Patch:
    """A restored crop.

    Attributes:
        crop: Where it belongs.
        image: RGB, square, of any resolution.
        mask: Union of the element masks, square, of any resolution.
        face_area: Area of the face box in the image; the larger is nearer.
    """

    crop: Crop
    image: Image.Image
    mask: Mask
    face_area: float


def composite(
    edited: Image.Image,
    patches: Sequence[Patch],
    *,
    inpainter: Inpainter | None = None,
    seed: int = 0,
) -> Image.Image:
    """The edited image with the patches in place.

    A patch is laid on with a matte; where patches overlap the highest matte wins, the nearer face
    at a tie. In a ring around each mask the transition is smoothed, by an inpainter or, without
    one, by Poisson blending. Pixels under no matte stay byte for byte.

    Args:
        edited: RGB.
        patches: In any order.
        inpainter: Paints the rings of all patches over.
        seed: For the inpainter.

    Raises:
        ValueError: If the inpainter returns an image of another size.
    """
    before = np.asarray(edited.convert("RGB"))
    height, width = before.shape[:2]
    result = before.astype(np.float64)
    best = np.zeros((height, width))
    rings = np.zeros((height, width), dtype=bool)
    for patch in sorted(patches, key=lambda patch: patch.face_area):
        frame, part = patch.crop.inside(height, width)
        pixels, mask = _at_scale(patch, (height, width))
        matte, ring = _matte(mask)[part], _ring(mask)[part]
        current, pixels = result[frame], pixels[part]
        laid_on = current + matte[..., None] * (pixels - current)
        if inpainter is None:
            laid_on = np.where(ring[..., None], pixels + _membrane(laid_on - pixels, ring), laid_on)
        wins = (matte > _NO_ALPHA) & (matte >= best[frame])
        result[frame] = np.where(wins[..., None], laid_on, current)
        best[frame] = np.where(wins, matte, best[frame])
        rings[frame] = np.where(wins, ring, rings[frame])
    blended = np.clip(np.rint(result), 0, 255).astype(np.uint8)
    if inpainter is not None and rings.any():
        blended = _inpainted(blended, rings, inpainter, seed)
    return Image.fromarray(blended)


def _inpainted(
    pixels: NDArray[np.uint8], rings: Mask, inpainter: Inpainter, seed: int
) -> NDArray[np.uint8]:
    image, mask = Image.fromarray(pixels), mask_image(rings)
    painted = inpainter(image, mask, seed)
    if painted.size != image.size:
        raise ValueError(f"the inpainter must return {image.size} pixels, got {painted.size}")
    return np.where(rings[..., None], np.asarray(painted.convert("RGB")), pixels)


def _at_scale(patch: Patch, shape: tuple[int, int]) -> tuple[_Pixels, Mask]:
    """Pixels and mask of a patch at the size of its crop.

    The mask is kept off those sides of the crop that lie inside the image, so that the transition
    ends within the crop.
    """
    crop, side = patch.crop, patch.crop.side
    image, grey = patch.image.convert("RGB"), mask_image(patch.mask)
    if image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.LANCZOS)
    if grey.size != (side, side):
        grey = grey.resize((side, side), Image.Resampling.BILINEAR)
    mask = np.asarray(grey) >= 128
    margin = _ring_radius(side) + round(4 * MATTE_SIGMA * side)
    if crop.left > 0:
        mask[:, :margin] = False
    if crop.top > 0:
        mask[:margin] = False
    if crop.left + side < shape[1]:
        mask[:, side - margin :] = False
    if crop.top + side < shape[0]:
        mask[side - margin :] = False
    return np.asarray(image).astype(np.float64), mask


def _matte(mask: Mask) -> _Pixels:
    sigma = MATTE_SIGMA * len(mask)
    grown = _grown(mask, round(sigma)).astype(np.float64)
    matte: _Pixels = gaussian_filter(grown, sigma, mode="nearest")
    return matte


def _ring(mask: Mask) -> Mask:
    radius = _ring_radius(len(mask))
    eroded: Mask = ~_grown(~mask, radius)
    ring: Mask = _grown(mask, radius) & ~eroded
    return ring


def _ring_radius(side: int) -> int:
    return max(1, round(RING_WIDTH * side))


def _grown(mask: Mask, radius: int) -> Mask:
    if not mask.any():
        return mask
    grown: Mask = distance_transform_edt(~mask) <= radius
    return grown


def _membrane(values: _Pixels, ring: Mask) -> _Pixels:
    """Harmonic inside the ring, equal to `values` (height, width, channels) around it.

    Added to a patch it leaves the patch's gradients as they are and meets its surroundings: Poisson
    blending (Perez et al. 2003) with the patch as guidance.
    """
    membrane = values.copy()
    count = int(ring.sum())
    index = np.full(ring.shape, -1)
    index[ring] = np.arange(count)
    rows, columns = np.nonzero(ring)
    degree, known = np.zeros(count), np.zeros((count, values.shape[2]))
    neighbours: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
    for down, across in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        r, c = rows + down, columns + across
        exists = (r >= 0) & (r < ring.shape[0]) & (c >= 0) & (c < ring.shape[1])
        here, r, c = np.nonzero(exists)[0], r[exists], c[exists]
        degree[here] += 1
        free = ring[r, c]
        neighbours.append((here[free], index[r[free], c[free]]))
        known[here[~free]] += values[r[~free], c[~free]]
    i, j = (np.concatenate(ends) for ends in zip(*neighbours, strict=True))
    diagonal = np.arange(count)
    laplacian = csr_array(
        (
            np.concatenate([degree, -np.ones(len(i))]),
            (np.concatenate([diagonal, i]), np.concatenate([diagonal, j])),
        ),
        shape=(count, count),
    )
    for channel in range(values.shape[2]):
        start = values[ring][:, channel]
        solved, _ = cg(laplacian, known[:, channel], x0=start, rtol=1e-5, maxiter=2000)
        membrane[ring, channel] = solved
    return membrane
