"""Masks of elements: from a face parser by the name of the element, or from the user."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from idbench.methods.editedid.faces import Box

Mask = NDArray[np.bool_]

_FACE = ("face", "nose", "re", "le", "rb", "lb", "ulip", "imouth", "llip")

# Word of an element -> labels of the parser (CelebAMask names, section 4 of the specification).
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


def user_mask(mask: Image.Image, size: tuple[int, int]) -> Mask:
    """A mask of the user at the size of the image; one half and more is the element."""
    grey = mask.convert("L")
    if grey.size != size:
        grey = grey.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(grey) >= 128
