"""Each baseline does to the pixels what it says, worked out by hand or by another library."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter1d

from idbench.methods.baselines.appearance import Blur, Colour, Jpeg
from idbench.methods.baselines.copying import Copy
from idbench.methods.baselines.geometry import Crop, Mirror, Rotate
from idbench.methods.baselines.noise import Noise
from idbench.methods.baselines.swap import Swap
from idbench.methods.baselines.warp import Warp
from idbench.methods.protocol import Edit, Failure, Reference, Request


def photograph(height=40, width=48, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def request(image=None, *, seed=7, face_box=None, **changes):
    references = (
        (Reference(image=image, sha256="0" * 64, face_box=face_box),) if image is not None else ()
    )
    fields = {"case_id": "c0123456789abcdef", "sample": 0, "seed": seed, "prompt": "a portrait"}
    return Request(**(fields | {"references": references} | changes))


def pixels_of(method, asked):
    (answer,) = method.generate([asked])
    assert isinstance(answer, Image.Image), answer
    assert answer.mode == "RGB"
    return np.asarray(answer)


def test_copy_is_the_reference_pixel_for_pixel():
    image = photograph()
    answer = Copy().generate([request(image)])[0]
    np.testing.assert_array_equal(np.asarray(answer), np.asarray(image))
    assert answer is not image


def test_copy_of_an_edit_keeps_the_edit_or_goes_back():
    edit = Edit(original=photograph(seed=1), edited=photograph(seed=2))
    asked = request(kind="edit_restoration", edit=edit)
    np.testing.assert_array_equal(pixels_of(Copy(), asked), np.asarray(edit.edited))
    np.testing.assert_array_equal(pixels_of(Copy(of="original"), asked), np.asarray(edit.original))


def test_mirror_reverses_columns_and_twice_is_nothing():
    image = photograph()
    once = pixels_of(Mirror(), request(image))
    np.testing.assert_array_equal(once, np.asarray(image)[:, ::-1])
    twice = pixels_of(Mirror(), request(Image.fromarray(once)))
    np.testing.assert_array_equal(twice, np.asarray(image))


@pytest.mark.parametrize(("degrees", "turns"), [(90.0, 1), (180.0, 2), (270.0, 3), (-90.0, 3)])
@pytest.mark.parametrize("side", [31, 32])
def test_quarter_turns_equal_numpy_counter_clockwise(degrees, turns, side):
    image = photograph(side, side)
    turned = pixels_of(Rotate(degrees=degrees), request(image))
    np.testing.assert_array_equal(turned, np.rot90(np.asarray(image), turns))


def test_half_turn_of_any_shape_reverses_both_axes():
    image = photograph(20, 33)
    np.testing.assert_array_equal(
        pixels_of(Rotate(degrees=180.0), request(image)), np.asarray(image)[::-1, ::-1]
    )


def test_positive_rotation_is_counter_clockwise():
    pixels = np.zeros((101, 101, 3), np.uint8)
    pixels[48:53, 90:95] = 255  # to the right of the centre, distance 42
    turned = pixels_of(Rotate(degrees=30.0), request(Image.fromarray(pixels)))[:, :, 0].astype(
        float
    )
    rows, columns = np.mgrid[0:101, 0:101]
    y = (rows * turned).sum() / turned.sum() - 50
    x = (columns * turned).sum() / turned.sum() - 50
    # Up the image by 42 sin 30 = 21, to the right by 42 cos 30 = 36.4.
    assert y == pytest.approx(-21.0, abs=0.1)
    assert x == pytest.approx(36.37, abs=0.1)


def test_no_rotation_is_nothing():
    image = photograph()
    np.testing.assert_array_equal(pixels_of(Rotate(degrees=0.0), request(image)), np.asarray(image))


def test_crop_keeps_the_middle_of_a_ramp():
    # Value 2x + 1 in column x of 100 columns: cut 20 left and right, the window runs from 20 to 80
    # in pixel edges, and column x of the answer shows the place 20 + 0.6 (x + 0.5) - 0.5.
    ramp = np.tile((2 * np.arange(100) + 1).astype(np.uint8)[None, :, None], (50, 1, 3))
    found = pixels_of(Crop(margin=0.2), request(Image.fromarray(ramp)))
    expected = 2 * (20 + 0.6 * (np.arange(100) + 0.5) - 0.5) + 1
    np.testing.assert_allclose(found[25, 5:95, 0], expected[5:95], atol=1.0)


def test_crop_moves_its_window_to_keep_a_face():
    pixels = np.full((100, 100, 3), 100, np.uint8)
    pixels[2:12, 4:14] = (255, 0, 0)  # in the corner that a centred crop cuts away
    image = Image.fromarray(pixels)
    without = pixels_of(Crop(margin=0.3), request(image))
    kept = pixels_of(Crop(margin=0.3), request(image, face_box=(4.0, 2.0, 14.0, 12.0)))
    assert (without == 100).all()
    # The face of 10 x 10 appears enlarged by 1 / 0.4: 625 pixels, its borders aside.
    red = (kept[:, :, 0] > 200).sum()
    assert red == pytest.approx(625, rel=0.1)


def test_crop_of_nothing_is_nothing():
    image = photograph()
    np.testing.assert_array_equal(pixels_of(Crop(margin=0.0), request(image)), np.asarray(image))


def test_blur_equals_a_separable_gaussian():
    image = photograph(60, 50)
    expected = np.asarray(image).astype(np.float64)
    for axis in (0, 1):
        expected = gaussian_filter1d(expected, 2.0, axis=axis, mode="nearest")
    found = pixels_of(Blur(sigma=2.0), request(image)).astype(int)
    # float32 against float64: half a grey level can round either way.
    assert np.abs(found - np.rint(expected)).max() <= 1
    assert (found == np.rint(expected)).mean() > 0.999


def test_blur_of_an_impulse_has_the_stated_width():
    pixels = np.zeros((101, 101, 3), np.uint8)
    pixels[48:53, 48:53] = 255
    found = pixels_of(Blur(sigma=5.0), request(Image.fromarray(pixels)))[:, :, 1].astype(float)
    rows = np.arange(101) - 50
    variance = (found.sum(axis=1) * rows**2).sum() / found.sum()
    # Variances add: 25 of the Gaussian and (5^2 - 1) / 12 = 2 of the square.
    assert variance == pytest.approx(27.0, rel=0.05)


def test_jpeg_equals_a_round_trip_of_pillow():
    image = photograph()
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=35, subsampling=2)  # 2 is 4:2:0
    with Image.open(buffer) as expected:
        np.testing.assert_array_equal(
            pixels_of(Jpeg(quality=35), request(image)), np.asarray(expected)
        )


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.3])
def test_brightness_multiplies(factor):
    image = photograph()
    found = pixels_of(Colour(brightness=factor, contrast=1.0, saturation=1.0), request(image))
    expected = np.clip(np.asarray(image) * factor, 0, 255)
    assert np.abs(found - expected).max() <= 1.0


def test_without_saturation_all_channels_are_luma():
    image = Image.new("RGB", (8, 8), (200, 100, 50))
    found = pixels_of(Colour(brightness=1.0, contrast=1.0, saturation=0.0), request(image))
    # ITU-R 601: 0.299 * 200 + 0.587 * 100 + 0.114 * 50 = 124.2
    assert (found == 124).all()


def test_without_contrast_the_mean_grey_remains():
    pixels = np.zeros((10, 10, 3), np.uint8)
    pixels[:5] = 100  # grey: its luma is its value, the mean is 50
    found = pixels_of(
        Colour(brightness=1.0, contrast=0.0, saturation=1.0), request(Image.fromarray(pixels))
    )
    assert (found == 50).all()


def test_swap_is_the_distractor():
    stranger = Reference(image=photograph(30, 20, seed=3), sha256="1" * 64)
    found = pixels_of(Swap(), request(photograph(), distractor=stranger))
    np.testing.assert_array_equal(found, np.asarray(stranger.image))
    assert Swap().capabilities.distractor


def test_swap_without_a_distractor_fails():
    (answer,) = Swap().generate([request(photograph())])
    assert isinstance(answer, Failure)
    assert answer.reason == "no_distractor"


def test_warp_of_no_strength_is_nothing():
    image = photograph()
    np.testing.assert_array_equal(pixels_of(Warp(strength=0.0), request(image)), np.asarray(image))


def coordinate_image(side):
    """Red is the column and green the row of a pixel."""
    rows, columns = np.mgrid[0:side, 0:side]
    return np.stack([columns, rows, np.zeros_like(rows)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("strength", [0.04, 0.12])
@pytest.mark.parametrize("face_box", [None, (80.0, 60.0, 160.0, 140.0)])
def test_warp_moves_pixels_by_at_most_its_strength(strength, face_box):
    size = 80.0 if face_box else 120.0  # the box, else half of 240
    moved = coordinate_image(240)
    for seed in range(4):
        asked = request(Image.fromarray(moved), seed=seed, face_box=face_box)
        found = pixels_of(Warp(strength=strength), asked).astype(float)
        inner = np.s_[20:-20, 20:-20]
        shift = np.hypot(*(found[inner] - moved[inner])[..., :2].transpose(2, 0, 1))
        # Rounding to whole grey levels adds up to half a pixel on each axis.
        assert shift.max() <= strength * size + np.hypot(0.5, 0.5)
        assert shift.mean() > 0.25 * strength * size


def test_warp_does_not_fold():
    found = pixels_of(
        Warp(strength=0.12),
        request(Image.fromarray(coordinate_image(240)), face_box=(60.0, 60.0, 180.0, 180.0)),
    ).astype(int)
    # From left to right the place that is shown never moves to the left, nor up going down.
    assert (np.diff(found[:, :, 0], axis=1) >= 0).all()
    assert (np.diff(found[:, :, 1], axis=0) >= 0).all()


def test_warp_is_smooth():
    found = pixels_of(
        Warp(), request(Image.fromarray(coordinate_image(240)), face_box=(70.0, 70.0, 170.0, 170.0))
    ).astype(int)
    assert np.abs(np.diff(found[:, :, 0], axis=1)).max() <= 3


def test_every_seed_is_another_warp_and_the_same_seed_the_same():
    image = photograph(64, 64)
    answers = [pixels_of(Warp(), request(image, seed=seed)).tobytes() for seed in (1, 2, 3, 1)]
    assert len(set(answers)) == 3
    assert answers[0] == answers[3]


def test_noise_is_uniform_and_independent_of_the_reference():
    found = pixels_of(Noise(), request(photograph(200, 200)))
    assert found.shape == (200, 200, 3)
    assert found.mean() == pytest.approx(127.5, abs=1.0)  # 120000 values, sd of the mean 0.21
    assert found.std() == pytest.approx(73.9, abs=1.0)  # (256^2 - 1) / 12 = 73.9^2
    np.testing.assert_array_equal(found, pixels_of(Noise(), request(photograph(200, 200, seed=5))))
    assert (found != pixels_of(Noise(), request(photograph(200, 200), seed=8))).any()


def test_added_noise_has_the_stated_deviation():
    grey = Image.new("RGB", (200, 200), (128, 128, 128))
    found = pixels_of(Noise(sigma=10.0), request(grey)).astype(float) - 128
    assert found.mean() == pytest.approx(0.0, abs=0.15)  # sd of the mean 0.03
    assert found.std() == pytest.approx(10.0, abs=0.15)


def test_noise_needs_no_reference():
    assert pixels_of(Noise(), request()).shape == (512, 512, 3)
    assert pixels_of(Noise(), request(width=64, height=32)).shape == (32, 64, 3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Crop(margin=0.5), r"margin must be in \[0, 0.45\], got 0.5"),
        (lambda: Rotate(degrees=float("nan")), r"degrees must be in \[-360, 360\], got nan"),
        (lambda: Blur(sigma=-1.0), r"sigma must be in \[0, 256\], got -1"),
        (lambda: Jpeg(quality=0), r"quality must be in \[1, 95\], got 0"),
        (lambda: Colour(contrast=11.0), r"contrast must be in \[0, 10\], got 11"),
        (lambda: Warp(strength=0.2), r"strength must be in \[0, 0.12\], got 0.2"),
        (lambda: Noise(sigma=float("inf")), r"sigma must be in \[0, 255\], got inf"),
        (lambda: Copy(of="restored"), "of must be 'edited' or 'original', got 'restored'"),
    ],
)
def test_values_outside_the_range_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


EVERY_BASELINE = [
    Copy(), Crop(), Mirror(), Rotate(), Colour(), Blur(), Jpeg(), Swap(), Warp(), Noise(),
    Noise(sigma=20.0),
]  # fmt: skip


@pytest.mark.parametrize("method", EVERY_BASELINE, ids=lambda method: method.name)
@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (1, 1), (3, 2, 1)),
        Image.new("RGB", (1, 300), (3, 2, 1)),
        Image.new("RGB", (300, 1), (3, 2, 1)),
        Image.new("L", (20, 30), 77),
        Image.new("RGBA", (20, 30), (1, 2, 3, 4)),
        Image.new("CMYK", (20, 30)),
    ],
    ids=["pixel", "column", "row", "grey", "alpha", "cmyk"],
)
@pytest.mark.parametrize("size", [(None, None), (64, 48), (50, None), (None, 1), (1, 1)])
def test_odd_photographs_are_answered_at_the_size_asked_for(method, image, size):
    stranger = Reference(image=image, sha256="1" * 64)
    for face_box in (None, (0.0, 0.0, 1.0, 1.0), (-5.0, -5.0, 500.0, 500.0)):
        asked = request(
            image, face_box=face_box, distractor=stranger, width=size[0], height=size[1]
        )
        (answer,) = method.generate([asked])
        assert isinstance(answer, Image.Image), answer
        assert answer.mode == "RGB"
        width, height = size
        if size == (None, None):
            width, height = image.size
        assert width in (None, answer.width)
        assert height in (None, answer.height)


@pytest.mark.parametrize("method", EVERY_BASELINE, ids=lambda method: method.name)
@pytest.mark.parametrize("size", [(0, 10), (-1, 10), (2**20, 2**20)])
def test_impossible_sizes_are_failures(method, size):
    image = photograph(8, 8)
    stranger = Reference(image=image, sha256="1" * 64)
    (answer,) = method.generate(
        [request(image, distractor=stranger, width=size[0], height=size[1])]
    )
    assert isinstance(answer, Failure)
    assert answer.reason == "bad_size"


@pytest.mark.parametrize("method", EVERY_BASELINE[:9], ids=lambda method: method.name)
def test_no_reference_is_a_failure_of_that_request_alone(method):
    image = photograph(8, 8)
    stranger = Reference(image=image, sha256="1" * 64)
    sound = request(image, distractor=stranger)
    answers = method.generate([sound, request(), sound])
    assert isinstance(answers[0], Image.Image)
    assert isinstance(answers[1], Failure)
    assert answers[1].reason in ("no_reference", "no_distractor")
    assert answers[0].tobytes() == answers[2].tobytes()


def test_fingerprints_tell_methods_and_parameters_apart():
    prints = [method.fingerprint() for method in [*EVERY_BASELINE, Blur(sigma=2.0)]]
    assert len({repr(fingerprint) for fingerprint in prints}) == len(prints)
    assert Blur(sigma=2.0).fingerprint() == Blur(sigma=2.0).fingerprint()
    assert Blur(sigma=2.0).fingerprint()["parameters"] == {"sigma": 2.0}
