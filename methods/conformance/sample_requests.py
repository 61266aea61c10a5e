"""Sound requests of every kind, made of nothing: what the conformance kit asks."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from idbench.methods.protocol import (
    Edit,
    EditFace,
    Element,
    Kind,
    Person,
    Reference,
    Request,
)

Box = tuple[float, float, float, float]

# Multiples of 64, which every latent diffusion model accepts, and not square.
WIDTH, HEIGHT = 320, 256

ASTRONAUT_FACE: Box = (182.0, 64.0, 265.0, 171.0)  # in scikit-image's photograph of 512 x 512


@dataclass(frozen=True, kw_only=True, slots=True)
class Portrait:
    """An image of a face, real or drawn, and the box of the face in pixels."""

    image: Image.Image
    face_box: Box

    def reference(self, person: int = 0) -> Reference:
        """The portrait as a reference of an identity."""
        digest = hashlib.sha256(self.image.tobytes()).hexdigest()
        copy = self.image.copy()
        return Reference(image=copy, sha256=digest, person=person, face_box=self.face_box)


def portraits() -> tuple[Portrait, Portrait]:
    """Two different portraits: scikit-image's astronaut if it is installed, else drawings.

    The second photograph is the first one mirrored and darkened: networks that look for a face
    find one in both, and no two pixels are alike.
    """
    try:
        from skimage import data
    except ImportError:
        return drawn_portrait(0), drawn_portrait(1)
    photograph: Any = data.astronaut  # scikit-image has no types
    image = Image.fromarray(np.asarray(photograph(), dtype=np.uint8))
    x0, y0, x1, y1 = ASTRONAUT_FACE
    darker = Image.fromarray((np.asarray(ImageOps.mirror(image)) * 0.7).astype(np.uint8))
    return (
        Portrait(image=image, face_box=ASTRONAUT_FACE),
        Portrait(image=darker, face_box=(image.width - x1, y0, image.width - x0, y1)),
    )


def drawn_portrait(number: int) -> Portrait:
    """A drawing of a face, 224 x 256 pixels; another `number` gives other colours and features."""
    y, x = np.mgrid[0:256, 0:224].astype(np.float64)
    wave = 40 * np.sin(x / (9 + number)) * np.cos(y / (13 + 2 * number))
    pixels = np.stack([90 + wave, 130 - wave, 150 + 0.3 * (y - 128)], axis=-1)

    def paint(
        centre: tuple[float, float], radii: tuple[float, float], colour: Sequence[float]
    ) -> None:
        inside: NDArray[np.bool_] = ((x - centre[0]) / radii[0]) ** 2 + (
            (y - centre[1]) / radii[1]
        ) ** 2 <= 1
        pixels[inside] = colour

    skin = ((224, 184, 150), (150, 106, 80))[number % 2]
    paint((112, 112), (58, 78), skin)
    for side in (-1, 1):
        paint((112 + side * 24, 96), (10, 6), (250, 250, 250))
        paint((112 + side * 24, 96), (5, 5), (40, 60 + 90 * (number % 2), 60))
    paint((112, 122), (7, 12), [0.85 * value for value in skin])
    paint((112, 152), (20 + 6 * (number % 2), 6), (170, 60, 70))
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    return Portrait(image=image, face_box=(54.0, 34.0, 170.0, 190.0))


def sound_request(kind: Kind, pair: Sequence[Portrait], *, seed: int = 11) -> Request:
    """A request of a kind that every method which declares the kind must answer with an image."""
    first, second = pair
    request = Request(
        case_id="c" + hashlib.sha256(f"{kind} {seed}".encode()).hexdigest()[:16],
        sample=0,
        seed=seed,
        prompt="A person in a red coat reads a letter in the rain.",
        kind=kind,
        references=(first.reference(),),
        people=(Person(expression="happy", orientation="side"),),
        distractor=second.reference(),
        width=WIDTH,
        height=HEIGHT,
    )
    if kind in ("multi_id", "multi_subject"):
        return replace(
            request,
            references=(first.reference(0), second.reference(1)),
            people=(
                Person(person=0, box=(0.1, 0.1, 0.45, 0.6)),
                Person(person=1, box=(0.55, 0.1, 0.9, 0.6)),
            ),
        )
    if kind == "subject":
        reference = replace(first.reference(), role="subject", class_word="person")
        return replace(request, references=(reference,), people=())
    if kind == "edit_restoration":
        return replace(request, edit=_edit(first, second), width=None, height=None)
    return request


def without_references(request: Request) -> Request:
    """The same request with everything taken away that a method could start from."""
    return replace(
        request,
        case_id=request.case_id[:-1] + "x",
        references=(),
        edit=None,
        distractor=None,
    )


def _edit(original: Portrait, other: Portrait) -> Edit:
    """A band painted over the forehead; the face under it is blended with that of another."""
    edited = np.asarray(original.image).astype(np.float64)
    stranger = np.asarray(other.image.resize(original.image.size)).astype(np.float64)
    x0, y0, x1, y1 = (round(edge) for edge in original.face_box)
    face = np.s_[y0:y1, x0:x1]
    edited[face] = 0.5 * edited[face] + 0.5 * stranger[face]
    mask = np.zeros(edited.shape[:2], dtype=np.uint8)
    mask[y0 : y0 + (y1 - y0) // 5, x0:x1] = 255
    edited[mask > 0] = (200, 20, 30)
    return Edit(
        original=original.image.copy(),
        edited=Image.fromarray(edited.astype(np.uint8)),
        instruction="add a red headband",
        elements=(Element(text="red headband", mask=Image.fromarray(mask)),),
        faces=(EditFace(person=0, original_box=original.face_box, edited_box=original.face_box),),
    )
