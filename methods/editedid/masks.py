"""Masks of elements: from a face parser by the name of the element, or from the user."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from idbench.methods.editedid.faces import Box

Mask = NDArray[np.bool_]
# A tensor is taken through numpy, so that this module needs no torch.
MaskLike = Image.Image | ArrayLike

_FACE = ("face", "nose", "re", "le", "rb", "lb", "ulip", "imouth", "llip")

# Word of an element -> labels of the parser, by their CelebAMask names.
# A beard has no class; eyepatches and headbands neither: these need masks from the user.
LABELS_OF: dict[str, tuple[str, ...]] = {
    "face": _FACE,
    "head": (*_FACE, "rr", "lr"),
    "eyes": ("re", "le"),
    "eyebrows": ("rb", "lb"),
    "nose": ("nose",),
    "mouth": ("ulip", "imouth", "llip"),
    "lips": ("ulip", "llip"),
    "ears": ("rr", "lr"),
    "hair": ("hair",),
    "neck": ("neck",),
    "glasses": ("eyeg",),
    "sunglasses": ("eyeg",),
    "hat": ("hat",),
    "beanie": ("hat",),
    "cap": ("hat",),
    "earrings": ("earr",),
    "earring": ("earr",),
    "necklace": ("neck_l",),
    "clothes": ("cloth",),
    "shirt": ("cloth",),
    "jacket": ("cloth",),
}


class MissingMaskError(ValueError):
    """Nothing says where an element is."""


def parsed_mask(element: str, labels: NDArray[np.integer], names: Sequence[str]) -> Mask:
    """Where a parser sees an element.

    Args:
        element: Its text; the last word that is known decides ("black-framed glasses").
        labels: Label map (height, width).
        names: Names of the labels.

    Raises:
        MissingMaskError: If no word of the element is one that the parser has labels for.
    """
    for word in reversed(element.lower().split()):
        wanted = [names.index(name) for name in LABELS_OF.get(word, ()) if name in names]
        if wanted:
            return np.isin(labels, wanted)
    known = sorted(word for word, need in LABELS_OF.items() if set(need) & set(names))
    raise MissingMaskError(
        f"no mask for the element {element!r}: the face parser knows {', '.join(known)}; give a "
        "mask of your own for others"
    )


def face_oval(box: Box, size: tuple[int, int]) -> Mask:
    """The ellipse inscribed in a face box, for runs without a face parser.

    Args:
        box: In pixels.
        size: (width, height) of the image.
    """
    image = Image.new("L", size)
    ImageDraw.Draw(image).ellipse(box, fill=255)
    return np.asarray(image) > 0


def mask_image(mask: Mask) -> Image.Image:
    """A mask as an image of mode "L"."""
    return Image.fromarray(mask.astype(np.uint8) * 255)


def user_mask(mask: MaskLike, size: tuple[int, int]) -> Mask:
    """A mask of the user at the size of the image; one half and more is the element.

    Args:
        mask: An image, or an array or tensor on the CPU of (height, width), with or without axes
            of length one, of bool, of [0, 1] or of [0, 255].
        size: (width, height) of the result.

    Raises:
        ValueError: If an array has another shape.
    """
    grey = mask.convert("L") if isinstance(mask, Image.Image) else _grey(np.asarray(mask))
    if grey.size != size:
        grey = grey.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(grey) >= 128


def _grey(array: NDArray[np.generic]) -> Image.Image:
    flat = np.squeeze(array) if array.ndim > 2 else array
    if flat.ndim != 2:
        raise ValueError(f"a mask needs the shape (height, width), got {array.shape}")
    values = flat.astype(np.float64)
    scale = 255.0 if values.max(initial=0.0) <= 1.0 else 1.0
    return Image.fromarray(np.clip(np.rint(scale * values), 0, 255).astype(np.uint8))
