"""Image files that somebody else wrote, read with suspicion."""

import warnings
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from idbench.methods.protocol import Failure
from idbench.methods.wrappers.answers import as_image

MAX_PIXELS = 2**27  # of a file that is read; 11585 x 11585


def read_image(path: Path) -> Image.Image | Failure:
    """The image of a file as RGB, upright, or a failure that says why it cannot be used.

    The size in the header is checked before any pixel is decoded. EXIF orientation is applied,
    16 bits become 8, CMYK becomes RGB. Truncated files, animations and transparent images are
    failures: what is missing in them cannot be scored.
    """
    try:
        with warnings.catch_warnings():
            # Pillow's warning comes at two thirds of the limit below and names no file.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(path)
        with opened:
            if opened.width * opened.height > MAX_PIXELS:
                return Failure(
                    "too_large",
                    f"{path.name} has {opened.width} x {opened.height} pixels, over {MAX_PIXELS}",
                )
            # An MPO is the JPEG of a phone with a depth map or thumbnail behind the photograph.
            if getattr(opened, "n_frames", 1) > 1 and opened.format != "MPO":
                return Failure("animated", f"{path.name} has more than one frame")
            return as_image(ImageOps.exif_transpose(opened))
    except FileNotFoundError:
        return Failure("no_image", f"there is no file {path.name}")
    except Image.DecompressionBombError as error:
        return Failure("too_large", f"{path.name}: {error}")
    except UnidentifiedImageError:
        return Failure("not_an_image", f"{path.name} is not an image that Pillow can read")
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises on broken files
        return Failure("unreadable", f"{path.name}: {error}")
