"""Programmatic edits of the astronaut: an element with an exact mask, the face left or changed."""

from typing import Literal

import numpy as np

from idbench.prompts.embedded.drawn import DRAWN_FACES, paint_features
from idbench.prompts.embedded.pictures import (
    Ellipse,
    Mask,
    Picture,
    blurred,
    enlarged,
    reduced,
)

ElementName = Literal["glasses", "cap"]
FaceTreatment = Literal["untouched", "blurred", "swapped"]

ELEMENT_TEXTS: dict[ElementName, str] = {"glasses": "black-framed glasses", "cap": "red cap"}
INSTRUCTIONS: dict[ElementName, str] = {
    "glasses": "Put black-framed glasses on the woman.",
    "cap": "Put a red cap on the woman's head.",
}
TREATMENTS: tuple[FaceTreatment, ...] = ("untouched", "blurred", "swapped")

# Facts about astronaut.png (512 x 512), from the five landmarks that MTCNN finds.
FACE_BOX = (182.0, 64.0, 265.0, 171.0)
_FACE = Ellipse(x=223, y=120, rx=43, ry=55)
_EYES = ((203.5, 101.0), (245.5, 102.5))
_COLOURS: dict[ElementName, tuple[int, int, int]] = {
    "glasses": (18, 18, 20),
    "cap": (188, 24, 36),
}


def element_mask(element: ElementName, height: int, width: int) -> Mask:
    """The pixels that the element covers, the same whatever happened to the face."""
    if element == "cap":
        crown = Ellipse(x=228, y=70, rx=80, ry=62).mask(height, width)
        crown[70:] = False
        brim = Ellipse(x=222, y=69, rx=92, ry=9).mask(height, width)
        return crown | brim
    rims = np.zeros((height, width), dtype=np.bool_)
    for x, y in _EYES:
        rims |= Ellipse(x=x, y=y, rx=18, ry=14).mask(height, width)
    for x, y in _EYES:
        rims &= ~Ellipse(x=x, y=y, rx=14.5, ry=10.5).mask(height, width)
    rims[98:102, 220:229] = True  # bridge
    rims[97:101, 176:187] = True  # temples
    rims[99:103, 262:272] = True
    return rims


def edited(photograph: Picture, element: ElementName, treatment: FaceTreatment) -> Picture:
    """The photograph with the face treated first and the element painted over it."""
    height, width = photograph.shape[:2]
    if treatment == "blurred":
        face = _FACE.mask(height, width)
        result = np.where(face[:, :, None], blurred(photograph, 9), photograph)
    elif treatment == "swapped":
        canvas = enlarged(photograph)
        scale = canvas.shape[0] // height
        paint_features(canvas, _FACE, DRAWN_FACES["drawn-1"], scale=scale)
        result = reduced(canvas)
    else:
        result = photograph.copy()
    result[element_mask(element, height, width)] = _COLOURS[element]
    return result
