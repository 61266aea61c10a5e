"""What a caller asks of one person of an image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from idbench.methods.dynamicid.faces import FaceBox
from idbench.methods.dynamicid.layout import FULL_FRAME, Box, vertical_strips


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """One person: references, the face wanted, and the place for it.

    `references` are pictures of the person; `face_boxes`, if given, say which face of each, in
    pixels. `face_prompt` is free text such as "in a happy expression, in side view"; without it
    the face keeps the reference's expression and orientation. `source_face_prompt` describes the
    reference and is built from its pose and expression if absent. `target_landmarks` are 106
    points on a 512 x 512 frame, the reference's own if absent. `box` is (y0, x0, y1, x1) in
    [0, 1].
    """

    references: tuple[Image.Image, ...]
    face_boxes: tuple[FaceBox | None, ...] | None = None
    face_prompt: str | None = None
    source_face_prompt: str | None = None
    target_landmarks: NDArray[np.floating] | None = None
    box: Box | None = None

    def __post_init__(self) -> None:
        """Refuses a person without references.

        Raises:
            ValueError: If there are none, or not one face box for each.
        """
        if not self.references:
            raise ValueError("a person needs at least one reference picture")
        if self.face_boxes is not None and len(self.face_boxes) != len(self.references):
            raise ValueError(
                f"{len(self.references)} references have {len(self.face_boxes)} face boxes; give "
                "one, or None, for each"
            )


def boxes_of(
    people: Sequence[Person], *, mixed: bool = False, legacy_full_frame: bool = False
) -> tuple[Box, ...] | None:
    """The boxes of one image's people, or None for an image without a layout.

    Several people without boxes stand in vertical strips. One person without a box, or two that
    are mixed into one face, have no layout unless `legacy_full_frame`, which gives the whole frame
    as the official code does. Mixed people share the box of the first.

    Raises:
        ValueError: If some have boxes and some do not.
    """
    given = [person.box for person in people if person.box is not None]
    if mixed:
        return (given[0],) if given else (FULL_FRAME,) if legacy_full_frame else None
    if given and len(given) != len(people):
        raise ValueError(
            f"{len(given)} of {len(people)} people have boxes; give every person a box or none"
        )
    if given:
        return tuple(given)
    if len(people) > 1:
        return vertical_strips(len(people))
    return (FULL_FRAME,) if legacy_full_frame else None
