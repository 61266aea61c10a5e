"""The canvas of a baseline: its size, and how photographs fill it without stretching a face."""

import itertools
from collections.abc import Sequence

import numpy as np
from PIL import Image

from idbench.methods.baselines.photos import Box, NoImageError, Photo
from idbench.methods.protocol import Request

MAX_PIXELS = 2**27  # of an image made by a baseline; 11585 x 11585

# What is kept around a face when a photograph is cut to fit, relative to the box of the face: the
# box of a detector ends at chin and hairline.
FACE_MARGIN = 0.5


def canvas_size(request: Request, photos: Sequence[Photo]) -> tuple[int, int]:
    """Width and height: what the request asks for, else what the photographs have.

    Side by side, photographs take the height of the tallest. If the request gives one side only,
    the other follows from the aspect ratio.

    Raises:
        NoImageError: If the size is not positive or exceeds `MAX_PIXELS`.
    """
    height = max(photo.image.height for photo in photos)
    width = sum(_natural_width(photo, height) for photo in photos)
    if request.width is not None and request.height is not None:
        width, height = request.width, request.height
    elif request.width is not None:
        width, height = request.width, max(1, round(height * request.width / width))
    elif request.height is not None:
        width, height = max(1, round(width * request.height / height)), request.height
    check_size(width, height)
    return width, height


def check_size(width: int, height: int) -> None:
    """Refuses what cannot be drawn.

    Raises:
        NoImageError: If the size is not positive or exceeds `MAX_PIXELS`.
    """
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise NoImageError(
            "bad_size", f"an image has 1 to {MAX_PIXELS} pixels, not {width} x {height}"
        )


def panels(size: tuple[int, int], photos: Sequence[Photo]) -> list[tuple[int, int]]:
    """Left and right edge, in pixels, of the part of the canvas that each photograph fills.

    Borders lie midway between the boxes that the case gives to neighbours; without boxes, or where
    boxes stand above one another, photographs share the width in proportion to their shapes.

    Raises:
        NoImageError: If the canvas is narrower than there are photographs.
    """
    width = size[0]
    if width < len(photos):
        raise NoImageError("bad_size", f"{len(photos)} people do not fit into {width} pixels")
    places = [photo.place for photo in photos if photo.place is not None]
    if len(places) == len(photos):
        borders = [(a[2] + b[0]) / 2 for a, b in itertools.pairwise(places)]
        edges = [0, *(round(border * width) for border in borders), width]
        centres = [(place[0] + place[2]) / 2 * width for place in places]
        spans = list(itertools.pairwise(edges))
        if all(
            left < right and left <= centre <= right
            for (left, right), centre in zip(spans, centres, strict=True)
        ):
            return spans
    height = max(photo.image.height for photo in photos)
    shares = list(itertools.accumulate(_natural_width(photo, height) for photo in photos))
    edges = [0]
    for index, share in enumerate(shares):
        last = width - (len(photos) - 1 - index)  # leaves a pixel for everybody to the right
        edges.append(min(max(round(width * share / shares[-1]), edges[-1] + 1), last))
    return list(itertools.pairwise(edges))


def fit(
    photo: Photo, width: int, height: int, *, centre: tuple[float, float] = (0.5, 0.5)
) -> Photo:
    """The photograph at another size, never stretched.

    It is scaled until it covers the canvas or until the face with its margin fills it, whichever
    comes first; without a face box nothing is cut off. What stays empty repeats the edge pixels.
    The face comes as near to `centre` (relative to the canvas) as the photograph allows. At its
    own size a photograph is returned unchanged.
    """
    image = photo.image
    if image.size == (width, height):
        return photo
    scale = _scale(photo, width, height)
    face = photo.face_box or (0.0, 0.0, float(image.width), float(image.height))
    x0 = _window(image.width, width / scale, (face[0] + face[2]) / 2, centre[0])
    y0 = _window(image.height, height / scale, (face[1] + face[3]) / 2, centre[1])
    left, columns = _shown(x0, image.width, width, scale)
    top, rows = _shown(y0, image.height, height, scale)
    box = (
        max(x0, 0.0),
        max(y0, 0.0),
        min(x0 + width / scale, float(image.width)),
        min(y0 + height / scale, float(image.height)),
    )
    shown = image.resize((columns, rows), Image.Resampling.LANCZOS, box=box)
    if (columns, rows) != (width, height):
        around = ((top, height - top - rows), (left, width - left - columns), (0, 0))
        shown = Image.fromarray(np.pad(np.asarray(shown), around, mode="edge"))
    moved: Box | None = None
    if photo.face_box:
        fx0, fy0, fx1, fy1 = photo.face_box
        moved = (
            (fx0 - x0) * scale,
            (fy0 - y0) * scale,
            (fx1 - x0) * scale,
            (fy1 - y0) * scale,
        )
    return Photo(image=shown, face_box=moved, place=photo.place)


def centre_in_panel(photo: Photo, edges: tuple[int, int], width: int) -> tuple[float, float]:
    """Where in its panel the case wants a person: the middle of its box, else of the panel."""
    if photo.place is None:
        return 0.5, 0.5
    middle = (photo.place[0] + photo.place[2]) / 2 * width
    across = (middle - edges[0]) / (edges[1] - edges[0])
    return min(max(across, 0.0), 1.0), (photo.place[1] + photo.place[3]) / 2


def _natural_width(photo: Photo, height: int) -> int:
    return max(1, round(photo.image.width * height / photo.image.height))


def _scale(photo: Photo, width: int, height: int) -> float:
    across, down = width / photo.image.width, height / photo.image.height
    contain, cover = min(across, down), max(across, down)
    if photo.face_box is None:
        return contain
    x0, y0, x1, y1 = photo.face_box
    grown = 1 + FACE_MARGIN
    face = min(width / max((x1 - x0) * grown, 1.0), height / max((y1 - y0) * grown, 1.0))
    return min(cover, max(contain, face))


def _window(length: int, window: float, face: float, centre: float) -> float:
    """Start of the window on one axis of the photograph; negative where it is larger than it."""
    start = face - centre * window
    low, high = sorted((0.0, length - window))
    return min(max(start, low), high)


def _shown(start: float, length: int, canvas: int, scale: float) -> tuple[int, int]:
    """Offset and extent, in pixels of the canvas, of the photograph on one axis."""
    if start >= 0.0 and start + canvas / scale <= length + 1e-6:
        return 0, canvas
    extent = min(canvas, max(1, round(length * scale)))
    return min(max(round(-start * scale), 0), canvas - extent), extent
