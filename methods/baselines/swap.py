"""`swap`: somebody else."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from PIL import Image

from idbench.methods.baselines.baseline import UNSEEDED, Baseline
from idbench.methods.baselines.photos import (
    SIDE_BY_SIDE,
    NoImageError,
    Photo,
    photo,
    photos_of,
)
from idbench.methods.protocol import Capabilities, Request


@dataclass(frozen=True, kw_only=True, slots=True)
class Swap(Baseline):
    """Answers with a photograph of another identity of the suite.

    The corner without preservation: a real, sharp, well detected face of the wrong person. Its
    similarity is the floor that a metric of preservation has on this suite, and its differences of
    pose and expression are those between any two photographs. Where the case asks for several
    people, each of them is replaced by the same stranger; for an edit or a subject the answer is
    the stranger alone. The size is that of the stranger's photograph unless the request gives one.
    """

    name: ClassVar[str] = "swap"

    @property
    def capabilities(self) -> Capabilities:
        """Asks for another identity and shows that one only."""
        return replace(UNSEEDED, distractor=True, uses_references=False)

    def photos(self, request: Request) -> list[Photo]:
        """The distractor, once per person."""
        if request.distractor is None:
            raise NoImageError("no_distractor", "the suite has no other identity to swap in")
        if request.kind not in SIDE_BY_SIDE:
            return [photo(request.distractor)]
        return [photo(request.distractor, place=slot.place) for slot in photos_of(request)]

    def change(self, photo: Photo, generator: np.random.Generator) -> Image.Image:
        """The stranger's photograph."""
        return photo.image
