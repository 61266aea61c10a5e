"""Tiles of a grid are where they belong."""

import numpy as np
import pytest
from PIL import Image

from idbench.picture_grid import TILE, write_grid


def colour(*rgb, size=(40, 40)):
    return Image.new("RGB", size, rgb)


def middle(pixels, column, row):
    return tuple(pixels[row * TILE + TILE // 2, column * TILE + TILE // 2])


def test_columns_stand_side_by_side_and_go_on_below(tmp_path):
    columns = [[colour(10 * n, 0, 0), colour(0, 10 * n, 0)] for n in range(10)]
    grid = write_grid(columns, tmp_path / "deep" / "grid.png")
    pixels = np.asarray(grid)
    assert grid.size == (8 * TILE, 4 * TILE)
    assert middle(pixels, 3, 0) == (30, 0, 0)
    assert middle(pixels, 3, 1) == (0, 30, 0)
    assert middle(pixels, 1, 2) == (90, 0, 0)
    assert middle(pixels, 1, 3) == (0, 90, 0)
    with Image.open(tmp_path / "deep" / "grid.png") as written:
        np.testing.assert_array_equal(np.asarray(written), pixels)


def test_pictures_keep_their_shape(tmp_path):
    grid = write_grid([[colour(200, 0, 0, size=(400, 200))]], tmp_path / "grid.png")
    red = (np.asarray(grid) == (200, 0, 0)).all(-1)
    assert red.any(0).sum() == TILE
    assert red.any(1).sum() == TILE // 2


def test_a_missing_picture_says_why(tmp_path):
    empty, words = (
        np.asarray(write_grid([[text]], tmp_path / "grid.png")) for text in ("", "no_face")
    )
    assert len(np.unique(empty.reshape(-1, 3), axis=0)) == 1
    assert (empty != words).any()


def test_columns_of_different_lengths_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"columns of one length, got lengths \[1, 2\]"):
        write_grid([["a"], ["a", "b"]], tmp_path / "grid.png")
    with pytest.raises(ValueError, match=r"got lengths \[\]"):
        write_grid([], tmp_path / "grid.png")
