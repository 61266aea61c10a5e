"""A grid of pictures for people to look at: what was given above what was made."""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from idbench.files import write_whole

TILE = 192  # pixels of the side of a tile
COLUMNS = 8
BACKGROUND = (238, 238, 238)
WORDS = (90, 90, 90)

Tile = Image.Image | str


def write_grid(columns: Sequence[Sequence[Tile]], path: Path) -> Image.Image:
    """Writes columns of tiles as one PNG, `COLUMNS` side by side and the rest below.

    Args:
        columns: Tiles from top to bottom, equally many in each; a text stands for a picture that
            is missing and says why.
        path: The file.

    Returns:
        The grid, as it was written.

    Raises:
        ValueError: If there are no columns or they are not equally long.
        StorageError: If the file cannot be written.
    """
    heights = {len(column) for column in columns}
    if len(heights) != 1:
        raise ValueError(f"a grid needs columns of one length, got lengths {sorted(heights)}")
    (height,) = heights
    bands = -(-len(columns) // COLUMNS)
    size = (min(len(columns), COLUMNS) * TILE, bands * height * TILE)
    grid = Image.new("RGB", size, BACKGROUND)
    for number, column in enumerate(columns):
        for row, tile in enumerate(column):
            x = number % COLUMNS * TILE
            y = (number // COLUMNS * height + row) * TILE
            grid.paste(_tile(tile), (x, y))
    buffer = io.BytesIO()
    grid.save(buffer, "PNG", compress_level=1)
    write_whole(path, buffer.getvalue())
    return grid


def _tile(tile: Tile) -> Image.Image:
    if isinstance(tile, Image.Image):
        fitted = ImageOps.contain(tile.convert("RGB"), (TILE, TILE), Image.Resampling.LANCZOS)
        return ImageOps.pad(fitted, (TILE, TILE), color=BACKGROUND)
    empty = Image.new("RGB", (TILE, TILE), BACKGROUND)
    ImageDraw.Draw(empty).text((8, 8), tile[:400], fill=WORDS)
    return empty
