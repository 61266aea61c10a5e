"""Reads image files as RGB arrays, or says what is wrong with them.

Every image that is scored passes through `read_rgb`, so that no two metrics decode one file in two
ways. Nothing is guessed: a file whose pixels are incomplete or ambiguous is refused.
"""

import hashlib
import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

ALLOWED = (
    "JPEG, PNG, WebP, TIFF, BMP, GIF or binary PPM or PGM with one picture of 1, 8 or 16 bits per "
    "channel"
)
MAX_PIXELS = 64_000_000

# What Pillow's parsers and decoders raise on damaged files.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    EOFError,
    OverflowError,
    ZeroDivisionError,
    MemoryError,
    struct.error,
    zlib.error,
)
_ORIENTATION_TAG = 0x0112


class ImageError(ValueError):
    """An image file that cannot be used; the message says why and what to do."""


def read_rgb(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Pixels of an image file as uint8 RGB, `height width 3`, as a viewer shows them.

    - The EXIF orientation is applied, once; EXIF that cannot be read counts as upright.
    - Grey becomes three equal channels. CMYK and YCbCr are converted by Pillow's formulas. Colour
      profiles are not applied.
    - Transparent pixels (alpha channel, palette or colour key) are laid over white. Dropping alpha
      instead would show colours that no viewer shows.
    - 16-bit channels keep their high byte, so 65535 becomes 255: scaled, not clipped.

    The size is checked against `max_pixels` from the header, before anything is decoded. Safe to
    call from several threads: no filter or limit of Pillow or of `warnings` is touched.

    Raises:
        ImageError: If the file is absent, unreadable, not of an allowed format, truncated or
            damaged, animated or with several pages, larger than `max_pixels`, or of a mode without
            a defined range (32-bit integers, floats, CIELAB).
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            return _read(stream, path, max_pixels)
    except ImageError:
        raise
    except FileNotFoundError:
        raise _error(path, "the file does not exist", "check the path") from None
    except IsADirectoryError:
        raise _error(path, "it is a folder", "name a file in it") from None
    except PermissionError:
        raise _error(path, "the file may not be read", "check its permissions") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as fault:
        # Only a GIF comes here, whose frames may be larger than its header says.
        raise _error(path, f"a frame is too large ({fault})", "make it smaller") from fault
    except _DAMAGED as fault:
        raise _error(
            path,
            f"the file is truncated or damaged ({type(fault).__name__}: {fault})",
            "copy or download it again",
        ) from fault


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read(stream: IO[bytes], path: Path, max_pixels: int) -> NDArray[np.uint8]:
    plugin = _plugin(stream.read(16), path)
    stream.seek(0)
    # The plugins are called directly because Image.open warns about large sizes through
    # `warnings`, whose filters are shared by all threads.
    with plugin(stream, str(path)) as picture:
        width, height = picture.size
        if width * height > max_pixels:
            raise _error(
                path,
                f"it has {width} x {height} pixels, more than max_pixels = {max_pixels}",
                "make it smaller, or raise max_pixels if you trust the file",
            )
        frames = getattr(picture, "n_frames", 1)
        if frames > 1:
            raise _error(path, f"it has {frames} frames or pages", "save the one you mean")
        picture.load()
        # After loading: Pillow turns a TIFF while it loads and removes the tag.
        return _upright(_rgb(picture, path), _orientation(picture))


def _plugin(head: bytes, path: Path) -> type[ImageFile.ImageFile]:
    if not head:
        raise _error(path, "the file is empty", "write or download it again")
    if head.startswith(b"\xff\xd8\xff"):
        return JpegImagePlugin.JpegImageFile
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImagePlugin.PngImageFile
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile
    if head.startswith((b"II*\0", b"MM\0*")):
        return TiffImagePlugin.TiffImageFile
    if head.startswith(b"BM"):
        return BmpImagePlugin.BmpImageFile
    if head.startswith((b"P5", b"P6")) and head[2:3].isspace():
        return PpmImagePlugin.PpmImageFile
    if head.startswith((b"GIF87a", b"GIF89a")):
        return GifImagePlugin.GifImageFile
    raise _error(path, f"the format is unknown (it begins with {head[:8]!r})", "convert it to PNG")


def _orientation(picture: Image.Image) -> int:
    try:
        orientation = picture.getexif().get(_ORIENTATION_TAG, 1)
    except _DAMAGED:
        return 1
    return orientation if orientation in range(1, 9) else 1


def _rgb(picture: Image.Image, path: Path) -> NDArray[np.uint8]:
    if picture.mode.startswith("I;16"):
        high_byte = (np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(high_byte[:, :, None], 3, axis=2)
    if picture.mode in ("I", "F", "LAB"):
        raise _error(
            path,
            f"the pixel mode {picture.mode!r} has no defined range",
            "save it with 8 or 16 bits per channel",
        )
    transparent = "transparency" in picture.info or picture.mode in (
        "LA",
        "La",
        "PA",
        "RGBA",
        "RGBa",
    )
    if transparent:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return np.array(picture.convert("RGB"))


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undoes an EXIF orientation; values as in the EXIF standard, 1 is upright."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _error(path: Path, fault: str, remedy: str) -> ImageError:
    return ImageError(f"{path}: {fault}; allowed: {ALLOWED}; {remedy}")
