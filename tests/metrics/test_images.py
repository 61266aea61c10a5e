import hashlib
import io
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from idbench.metrics.images import ImageError, read_rgb, sha256_of

LOSSLESS = {
    "png": {},
    "tiff": {},
    "bmp": {},
    "webp": {"lossless": True},
}


@pytest.fixture(scope="module")
def picture():
    """A picture without any symmetry, 21 x 13."""
    y, x = np.mgrid[:13, :21]
    return np.stack([12 * x, 19 * y, (x * y) % 256], axis=2).astype(np.uint8)


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png_chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_bytes(width, height, depth, colour, rows, extra=b""):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + extra
        + png_chunk(b"IDAT", zlib.compress(rows))
        + png_chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_pixels_are_returned_unchanged(tmp_path, picture, kind):
    path = tmp_path / "picture"
    Image.fromarray(picture).save(path, kind, **LOSSLESS[kind])
    read = read_rgb(path)
    assert read.dtype == np.uint8
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(read, picture)


# What a camera stores so that undoing the orientation gives the upright picture; EXIF 2.3,
# tag 0x0112: 6 means that the stored row 0 is the right side of the scene.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["png", "tiff", "webp"])
def test_exif_orientation_is_applied_once(tmp_path, picture, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](picture)))
    stored.save(tmp_path / "turned", kind, exif=exif, **LOSSLESS[kind])
    np.testing.assert_array_equal(read_rgb(tmp_path / "turned"), picture)


def test_exif_orientation_of_jpeg_is_applied(tmp_path, picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    smooth = np.ascontiguousarray(np.repeat(np.repeat(picture, 16, 0), 16, 1))
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(smooth, 1)))
    stored.save(tmp_path / "turned.jpg", quality=100, subsampling=0, exif=exif)
    read = read_rgb(tmp_path / "turned.jpg")
    assert read.shape == smooth.shape
    assert np.abs(read.astype(int) - smooth).mean() < 2


def test_unreadable_exif_counts_as_upright(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "odd.png", exif=b"Exif\0\0not a tiff header at all")
    np.testing.assert_array_equal(read_rgb(tmp_path / "odd.png"), picture)


def test_transparency_is_laid_over_white(tmp_path):
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [100, 0, 200, 51]]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "alpha.png")
    # alpha 51 is 0.2: 0.2 * 100 + 0.8 * 255 = 224, 204, 244
    expected = [[[10, 20, 30], [255, 255, 255], [224, 204, 244]]]
    np.testing.assert_array_equal(read_rgb(tmp_path / "alpha.png"), expected)


def test_transparent_grey_is_laid_over_white(tmp_path):
    pixels = np.array([[[40, 255], [40, 0]]], np.uint8)
    Image.fromarray(pixels, "LA").save(tmp_path / "grey.png")
    np.testing.assert_array_equal(
        read_rgb(tmp_path / "grey.png"), [[[40, 40, 40], [255, 255, 255]]]
    )


def test_palette_gives_its_colours_and_its_transparent_entry_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([1, 2, 3, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "clear.png", transparency=1)
    np.testing.assert_array_equal(read_rgb(tmp_path / "opaque.png"), [[[1, 2, 3], [200, 100, 50]]])
    np.testing.assert_array_equal(read_rgb(tmp_path / "clear.png"), [[[1, 2, 3], [255, 255, 255]]])


def test_colour_key_is_laid_over_white(tmp_path):
    rows = b"\0" + bytes([9, 8, 7, 1, 2, 3])
    key = png_chunk(b"tRNS", struct.pack(">HHH", 9, 8, 7))
    (tmp_path / "key.png").write_bytes(png_bytes(2, 1, 8, 2, rows, key))
    np.testing.assert_array_equal(read_rgb(tmp_path / "key.png"), [[[255, 255, 255], [1, 2, 3]]])


def test_grey_and_bilevel_become_three_equal_channels(tmp_path):
    Image.fromarray(np.array([[0, 77, 255]], np.uint8)).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "grey.png")[0, :, 1], [0, 77, 255])
    Image.fromarray(np.array([[False, True]])).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "bits.png")[0, :, 2], [0, 255])


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, kind):
    values = np.array([[0, 255, 256, 0x7FFF, 0x8000, 0xFFFF]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep", kind)
    np.testing.assert_array_equal(read_rgb(tmp_path / "deep")[0, :, 0], [0, 0, 1, 127, 128, 255])


def test_16_bit_colour_is_scaled_not_clipped(tmp_path):
    row = struct.pack(">6H", 0, 0x8000, 0xFFFF, 0x0100, 0x7FFF, 0x00FF)
    (tmp_path / "deep.png").write_bytes(png_bytes(2, 1, 16, 2, b"\0" + row))
    np.testing.assert_array_equal(read_rgb(tmp_path / "deep.png"), [[[0, 128, 255], [1, 127, 0]]])


def test_cmyk_becomes_rgb(tmp_path):
    # Ink in percent of full: R = 255 (1 - C)(1 - K), so pure cyan is (0, 255, 255).
    image = Image.new("CMYK", (16, 8), (255, 0, 0, 0))
    image.paste((0, 0, 0, 128), (8, 0, 16, 8))
    image.save(tmp_path / "print.jpg", quality=100, subsampling=0)
    read = read_rgb(tmp_path / "print.jpg").astype(int)
    assert np.abs(read[:, :7] - [0, 255, 255]).max() <= 3
    assert np.abs(read[:, 9:] - [127, 127, 127]).max() <= 3


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "tiff"])
def test_several_frames_or_pages_are_refused(tmp_path, picture, kind):
    frames = [Image.fromarray(picture), Image.fromarray(255 - picture)]
    frames[0].save(tmp_path / "film", kind, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match=r"film: it has 2 frames or pages; allowed: .*; save"):
        read_rgb(tmp_path / "film")


def test_gif_with_one_frame_is_read(tmp_path):
    Image.new("RGB", (3, 2), (255, 0, 0)).save(tmp_path / "still.gif")
    np.testing.assert_array_equal(read_rgb(tmp_path / "still.gif")[1, 2], [255, 0, 0])


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "tiff", "bmp", "gif"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_truncated_files_are_refused(tmp_path, photographs, kind, share):
    image = Image.fromarray(np.ascontiguousarray(photographs["astronaut"][:128, :128]))
    whole = encoded(image, kind)
    (tmp_path / "cut").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ImageError, match=r"cut: the file is truncated or damaged .*; allowed: "):
        read_rgb(tmp_path / "cut")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow comments on odd TIFF tags
@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "the file is empty"),
        (b"This is a letter, not a picture.", "the format is unknown"),
        (b"\0" * 1000, "the format is unknown"),
        (b"%PDF-1.7 ...", "the format is unknown"),
        (b"\xff\xd8\xff" + b"\x13" * 500, "truncated or damaged"),
        (b"\x89PNG\r\n\x1a\n" + b"\x13" * 500, "truncated or damaged"),
        (b"RIFF\x10\0\0\0WEBP" + b"\x13" * 500, "truncated or damaged"),
        (b"II*\0" + b"\x13" * 500, "truncated or damaged"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path, content, fault):
    (tmp_path / "odd").write_bytes(content)
    with pytest.raises(ImageError, match=f"odd: .*{fault}.*; allowed: JPEG, PNG"):
        read_rgb(tmp_path / "odd")


def test_absent_files_and_folders_are_refused(tmp_path):
    with pytest.raises(ImageError, match=r"nothing\.png: the file does not exist"):
        read_rgb(tmp_path / "nothing.png")
    with pytest.raises(ImageError, match="it is a folder"):
        read_rgb(tmp_path)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_without_a_range_are_refused(tmp_path, mode):
    Image.new(mode, (2, 2)).save(tmp_path / "wide.tiff")
    with pytest.raises(ImageError, match=f"mode '{mode}' has no defined range"):
        read_rgb(tmp_path / "wide.tiff")


# Below Pillow's own warning, between its warning and its error, and above.
@pytest.mark.parametrize("side", [9_000, 11_000, 60_000])
def test_bombs_are_refused_before_decoding(tmp_path, side):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_bytes(side, side, 8, 2, b"\0" * 100_000))
    message = rf"bomb\.png: it has {side} x {side} pixels, more than max_pixels = 64000000"
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(ImageError, match=message):
            read_rgb(path)
    assert seen == []


def test_bombs_cost_no_memory(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_bytes(20_000, 20_000, 8, 2, b"\0" * 100_000))
    # 1.2 GB would be needed to decode it; the child may have half a gigabyte of address space more
    # than it starts with.
    program = f"""
import resource
from idbench.metrics.images import ImageError, read_rgb
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, used + 2**29))
try:
    read_rgb({str(path)!r})
except ImageError as error:
    print(error)
"""
    if sys.platform != "linux":
        pytest.skip("needs /proc")
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "more than max_pixels" in out.stdout, out.stderr


def test_max_pixels_is_the_last_size_that_is_allowed(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "p.png")
    assert read_rgb(tmp_path / "p.png", max_pixels=21 * 13).shape == (13, 21, 3)
    with pytest.raises(ImageError, match="more than max_pixels = 272"):
        read_rgb(tmp_path / "p.png", max_pixels=21 * 13 - 1)


def test_threads_do_not_disturb_one_another_or_the_warning_filters(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "good.png")
    (tmp_path / "bomb.png").write_bytes(png_bytes(11_000, 11_000, 8, 2, b"\0"))

    def read(number):
        try:
            return read_rgb(tmp_path / ("good.png" if number % 2 else "bomb.png")).sum()
        except ImageError:
            return "refused"

    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(read, range(200)))
    assert results == ["refused", picture.sum()] * 100
    assert warnings.filters == before


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow comments on odd TIFF tags
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "tiff", "bmp", "gif"])
def test_random_damage_gives_pixels_or_an_image_error(tmp_path, picture, kind):
    generator = np.random.default_rng(7)
    whole = np.frombuffer(encoded(Image.fromarray(picture), kind), np.uint8)
    for _ in range(150):
        damaged = whole.copy()
        places = generator.integers(0, len(damaged), generator.integers(1, 12))
        damaged[places] = generator.integers(0, 256, len(places))
        (tmp_path / "damaged").write_bytes(damaged.tobytes())
        try:
            read = read_rgb(tmp_path / "damaged", max_pixels=10_000)
        except ImageError:
            continue
        assert read.ndim == 3


def test_sha256_of_is_that_of_the_bytes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(tmp_path / "abc") == known
    large = bytes(range(256)) * 20_000
    (tmp_path / "large").write_bytes(large)
    assert sha256_of(tmp_path / "large") == hashlib.sha256(large).hexdigest()
