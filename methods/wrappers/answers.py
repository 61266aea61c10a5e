"""What foreign code answers, turned into an RGB image or a failure that says what is wrong."""

import re

import numpy as np
from PIL import Image

from idbench.methods.protocol import Failure


def as_image(answer: object) -> Image.Image | Failure:
    """An RGB image from a Pillow image or an array; anything else becomes a failure.

    Arrays are `height width 3` (RGB), `height width 1` or `height width` (grey), uint8 in [0, 255]
    or floating in [0, 1]. Grey becomes RGB. Transparency is refused unless nothing is transparent,
    because an image without a background cannot be scored.
    """
    if isinstance(answer, Failure):
        return answer
    if isinstance(answer, Image.Image):
        return _rgb(answer)
    if isinstance(answer, np.ndarray):
        return _from_array(answer)
    if answer is None:
        return Failure("no_image", "the method returned None")
    kind = type(answer)
    return Failure(
        "not_an_image",
        f"expected a PIL image or a numpy array, got {kind.__module__}.{kind.__qualname__}",
    )


def sized(
    image: Image.Image | Failure, width: int | None, height: int | None
) -> Image.Image | Failure:
    """The image, or a failure where it does not have the size that was asked for."""
    if isinstance(image, Failure):
        return image
    if (width or image.width, height or image.height) == image.size:
        return image
    asked = f"{width or 'any'} x {height or 'any'}"
    return Failure("wrong_size", f"asked for {asked} pixels, got {image.width} x {image.height}")


def slug(text: str) -> str:
    """A name that folders and tables can carry: letters, digits, dot, dash and underscore."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:64] or "method"


def _rgb(image: Image.Image) -> Image.Image | Failure:
    if 0 in image.size:
        return Failure("not_an_image", f"the image has {image.width} x {image.height} pixels")
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        grey = ((values * 255 + 32767) // 65535).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("I", "F"):
        return Failure("not_an_image", f"images of mode {image.mode!r} have no white; use RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] != 255:
            return Failure("transparent", "the image has transparent pixels; flatten it first")
    return image.convert("RGB")


def _from_array(values: np.ndarray) -> Image.Image | Failure:
    shape = values.shape
    if values.ndim == 3 and shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] != 3) or 0 in shape:
        return Failure("not_an_image", f"expected an array of height x width x 3, got {shape}")
    if np.issubdtype(values.dtype, np.floating):
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            return Failure("not_finite", "the image holds NaN or infinite values")
        if low < 0.0 or high > 1.0:
            return Failure(
                "not_an_image", f"floating images are in [0, 1], got [{low:g}, {high:g}]"
            )
        values = np.rint(values.astype(np.float64) * 255).astype(np.uint8)
    if values.dtype != np.uint8:
        return Failure("not_an_image", f"expected uint8 or floating values, got {values.dtype}")
    return Image.fromarray(np.ascontiguousarray(values)).convert("RGB")
