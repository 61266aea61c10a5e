"""What counts as an image, and what is said about the rest."""

import numpy as np
import pytest
from PIL import Image

from idbench.methods.protocol import Failure
from idbench.methods.wrappers.answers import as_image, sized, slug

COLOURS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Image.fromarray(COLOURS), COLOURS),
        (COLOURS, COLOURS),
        (COLOURS / 255.0, COLOURS),
        ((COLOURS / 255.0).astype(np.float32), COLOURS),
        (COLOURS[::-1], COLOURS[::-1]),
        (COLOURS[:, :, 0], np.repeat(COLOURS[:, :, :1], 3, axis=2)),
        (COLOURS[:, :, :1], np.repeat(COLOURS[:, :, :1], 3, axis=2)),
        (Image.fromarray(COLOURS[:, :, 0]), np.repeat(COLOURS[:, :, :1], 3, axis=2)),
        (Image.fromarray(COLOURS).convert("RGBA"), COLOURS),
        # 16 bits: 65535 is white, and 257 k is the grey level k.
        (
            Image.fromarray(np.array([[0, 257, 65535, 128, 129]], np.uint16)),
            np.repeat(np.array([[[0], [1], [255], [0], [1]]], np.uint8), 3, axis=2),
        ),
    ],
)
def test_images_and_arrays_become_rgb(answer, expected):
    image = as_image(answer)
    assert isinstance(image, Image.Image), image
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), expected)


def test_the_answer_is_not_shared():
    given = Image.fromarray(COLOURS)
    assert as_image(given) is not given


def with_value(value):
    changed = np.full((4, 4, 3), 0.5)
    changed[1, 2, 0] = value
    return changed


@pytest.mark.parametrize(
    ("answer", "reason", "detail"),
    [
        (None, "no_image", "returned None"),
        ("image.png", "not_an_image", "got builtins.str"),
        ([COLOURS], "not_an_image", "got builtins.list"),
        (with_value(np.nan), "not_finite", "NaN"),
        (with_value(np.inf), "not_finite", "infinite"),
        (with_value(1.5), "not_an_image", r"in [0, 1], got [0.5, 1.5]"),
        (COLOURS.astype(np.int64), "not_an_image", "got int64"),
        (COLOURS > 3, "not_an_image", "got bool"),
        (np.zeros((3, 8, 8), np.uint8), "not_an_image", "(3, 8, 8)"),
        (np.zeros((1, 8, 8, 3), np.uint8), "not_an_image", "(1, 8, 8, 3)"),
        (np.zeros((0, 8, 3), np.uint8), "not_an_image", "(0, 8, 3)"),
        (np.zeros((8, 8, 4), np.uint8), "not_an_image", "(8, 8, 4)"),
        (np.zeros((0, 8, 3), np.float32), "not_an_image", "(0, 8, 3)"),
        (Image.new("RGB", (0, 5)), "not_an_image", "0 x 5"),
        (Image.new("RGBA", (4, 4), (1, 2, 3, 254)), "transparent", "flatten"),
        (Image.new("F", (4, 4)), "not_an_image", "mode 'F'"),
    ],
)
def test_everything_else_is_a_failure_that_says_why(answer, reason, detail):
    failure = as_image(answer)
    assert isinstance(failure, Failure)
    assert failure.reason == reason
    assert detail in failure.detail


def test_a_failure_stays_what_it_is():
    failure = Failure("refused", "policy")
    assert as_image(failure) is failure
    assert sized(failure, 1, 1) is failure


def test_sizes_are_compared_where_they_are_asked_for():
    image = Image.new("RGB", (6, 4))
    assert sized(image, None, None) is image
    assert sized(image, 6, None) is image
    assert sized(image, 6, 4) is image
    assert sized(image, None, 5) == Failure("wrong_size", "asked for any x 5 pixels, got 6 x 4")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("my model", "my-model"),
        ("../../x", "x"),
        ("", "method"),
        ("a/b\\c", "a-b-c"),
        ("x" * 99, "x" * 64),
    ],
)
def test_slugs_are_safe_in_paths(text, expected):
    assert slug(text) == expected
