"""How each derived picture of the embedded suites is made: path below the source -> bytes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from idbench.prompts.embedded.drawn import DRAWN_FACES, drawn_portrait
from idbench.prompts.embedded.edits import ELEMENT_TEXTS, TREATMENTS, edited, element_mask
from idbench.prompts.embedded.pictures import netpbm, photograph

Recipe = Callable[[Path], bytes]  # takes the data root, below which nothing is read but packages


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """A real person of the demo: where to cut, and where the face is inside the cut (pixels)."""

    name: str
    photograph: str
    cut: tuple[int, int, int, int]
    face_box: tuple[float, float, float, float]
    gender: Literal["female", "male"]


# Squares of 256 pixels around faces of about 100 x 130, placed so that no second face is inside and
# that shifting them by a few pixels leaves the detector's landmarks where they are.
# The t1 people are a to f from left to right.
PEOPLE: tuple[Person, ...] = (
    Person(
        name="astronaut",
        photograph="astronaut",
        cut=(95, 0, 351, 256),
        face_box=(87, 64, 170, 171),
        gender="female",
    ),
    Person(
        name="t1-a",
        photograph="t1",
        cut=(0, 202, 256, 458),
        face_box=(54, 64, 164, 193),
        gender="female",
    ),
    Person(
        name="t1-b",
        photograph="t1",
        cut=(196, 80, 452, 336),
        face_box=(73, 72, 169, 189),
        gender="female",
    ),
    Person(
        name="t1-c",
        photograph="t1",
        cut=(389, 207, 645, 463),
        face_box=(77, 58, 180, 198),
        gender="male",
    ),
    Person(
        name="t1-d",
        photograph="t1",
        cut=(664, 281, 920, 537),
        face_box=(79, 62, 178, 194),
        gender="male",
    ),
    Person(
        name="t1-e",
        photograph="t1",
        cut=(833, 2, 1089, 258),
        face_box=(78, 60, 179, 196),
        gender="male",
    ),
    Person(
        name="t1-f",
        photograph="t1",
        cut=(1024, 206, 1280, 462),
        face_box=(110, 66, 203, 191),
        gender="female",
    ),
)


def _cut(person: Person, data_root: Path) -> bytes:
    x0, y0, x1, y1 = person.cut
    return netpbm(photograph(person.photograph, data_root)[y0:y1, x0:x1])


def _drawn(name: str, data_root: Path) -> bytes:
    del data_root  # a drawing needs no photograph
    return netpbm(drawn_portrait(DRAWN_FACES[name]))


def _edited(element: str, treatment: str, data_root: Path) -> bytes:
    picture = photograph("astronaut", data_root)
    return netpbm(edited(picture, element, treatment))  # type: ignore[arg-type]  # names from the tables below


def _mask(element: str, data_root: Path) -> bytes:
    height, width = photograph("astronaut", data_root).shape[:2]
    return netpbm(element_mask(element, height, width))  # type: ignore[arg-type]  # as above


RECIPES: dict[str, Recipe] = {
    **{f"people/{person.name}.ppm": partial(_cut, person) for person in PEOPLE},
    **{f"drawn/{name}.ppm": partial(_drawn, name) for name in DRAWN_FACES},
    **{
        f"edits/{element}-{treatment}.ppm": partial(_edited, element, treatment)
        for element in ELEMENT_TEXTS
        for treatment in TREATMENTS
    },
    **{f"edits/{element}-mask.pgm": partial(_mask, element) for element in ELEMENT_TEXTS},
}
