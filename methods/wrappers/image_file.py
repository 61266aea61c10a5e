"""Image files that somebody else wrote, read with suspicion."""

import io
import threading
import warnings
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from idbench.methods.protocol import Failure
from idbench.methods.wrappers.answers import as_image

MAX_PIXELS = 2**27  # of a file that is read; 11585 x 11585

_FILTERS = threading.Lock()


def read_image(path: Path) -> Image.Image | Failure:
    """The image of a file as RGB, upright, or a failure that says why it cannot be used.

    The size in the header is checked before any pixel is decoded. EXIF orientation is applied,
    16 bits become 8, CMYK becomes RGB. Truncated files, animations and transparent images are
    failures: what is missing in them cannot be scored.
    """
    return _read(path, path.name)


def read_image_bytes(content: bytes, name: str) -> Image.Image | Failure:
    """As `read_image`, for the content of a file that messages call `name`."""
    return _read(io.BytesIO(content), name)


def _read(source: Path | io.BytesIO, name: str) -> Image.Image | Failure:
    try:
        with _FILTERS, warnings.catch_warnings():  # which changes them for every thread
            # Pillow's warning comes at two thirds of the limit below and names no file.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(source)
        with opened:
            if opened.width * opened.height > MAX_PIXELS:
                return Failure(
                    "too_large",
                    f"{name} has {opened.width} x {opened.height} pixels, over {MAX_PIXELS}",
                )
            # An MPO is the JPEG of a phone with a depth map or thumbnail behind the photograph.
            if getattr(opened, "n_frames", 1) > 1 and opened.format != "MPO":
                return Failure("animated", f"{name} has more than one frame")
            return as_image(ImageOps.exif_transpose(opened))
    except FileNotFoundError:
        return Failure("no_image", f"there is no file {name}")
    except Image.DecompressionBombError as error:
        return Failure("too_large", f"{name}: {error}")
    except UnidentifiedImageError:
        return Failure("not_an_image", f"{name} is not an image that Pillow can read")
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises on broken files
        return Failure("unreadable", f"{name}: {error}")
