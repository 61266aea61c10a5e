"""What a request gives a recipe: prompt, pictures, places and size, under the names of sources."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from idbench.methods.protocol import Reference, Request
from idbench.methods.recipes.recipe import Recipe, Size

Box = tuple[float, float, float, float]


class UnusableRequestError(ValueError):
    """A request that a recipe cannot answer. `reason` is the slug of the failure."""

    def __init__(self, reason: str, message: str) -> None:
        """Keeps the reason beside the message."""
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """A request as a recipe sees it.

    `width` and `height` are what the pipeline makes; `output_size` what the image has in the end.
    `references` are those that are used, persons in order.
    """

    prompt: str
    references: tuple[Reference, ...]
    source: Image.Image | None
    boxes: tuple[Box | None, ...]
    width: int
    height: int
    output_size: tuple[int, int]

    @property
    def pictures(self) -> list[Image.Image]:
        """The image to edit, else the references."""
        if self.source is not None:
            return [self.source]
        return [reference.image for reference in self.references]

    def value(self, source: str) -> Any:
        """The value of a source that is read from the request alone; None where it has none.

        Raises:
            LookupError: If it is not one of those.
        """
        images = [reference.image for reference in self.references]
        values: Mapping[str, Any] = {
            "prompt": self.prompt,
            "reference": images[0] if images else None,
            "references": images or None,
            "references_nested": [images] if images else None,
            "image": self.pictures[0] if self.pictures else None,
            "images": self.pictures or None,
            "images_nested": [self.pictures] if self.pictures else None,
            "black": Image.new("RGB", (self.width, self.height)),
            "box_masks": self.masks(),
            "boxes": [list(box) for box in self.boxes if box is not None] or None,
            "class_word": self.references[0].class_word if self.references else None,
            "width": self.width,
            "height": self.height,
            "pixels": self.width * self.height,
        }
        if source == "image_at_size":
            size = (self.width, self.height)
            return ImageOps.fit(self.pictures[0], size, Image.Resampling.LANCZOS)
        if source not in values:
            raise LookupError(f"{source!r} is no source of the request; known: {', '.join(values)}")
        return values[source]

    def masks(self) -> NDArray[np.float32] | None:
        """1 inside the box of each reference's person, (references, height, width).

        None where there is one person. Without boxes, people stand in equal strips from left to
        right.
        """
        people = sorted({reference.person for reference in self.references})
        if len(people) < 2:
            return None
        masks = np.zeros((len(self.references), self.height, self.width), np.float32)
        for mask, reference in zip(masks, self.references, strict=True):
            place = people.index(reference.person)
            strip = (place / len(people), 0.0, (place + 1) / len(people), 1.0)
            box = self.boxes[reference.person] if reference.person < len(self.boxes) else None
            x0, y0, x1, y1 = box or strip
            rows = slice(math.floor(y0 * self.height), math.ceil(y1 * self.height))
            mask[rows, math.floor(x0 * self.width) : math.ceil(x1 * self.width)] = 1.0
        return masks


def read_request(recipe: Recipe, request: Request, size: Size) -> Inputs:
    """What a recipe needs of a request.

    An edit starts from its original; its instruction is the prompt.

    Raises:
        UnusableRequestError: If the request lacks what the recipe needs, or has a size that the
            pipeline cannot make.
    """
    if request.kind == "edit_restoration" and recipe.is_edit:
        return _read_edit(recipe, request, size)
    if recipe.uses_references and not request.references:
        raise UnusableRequestError("no_reference", f"case {request.case_id} has no reference")
    width, height = request.width or size.width, request.height or size.height
    for name, side in (("width", width), ("height", height)):
        if side % size.multiple_of:
            raise UnusableRequestError(
                "bad_size", f"{name} must be a multiple of {size.multiple_of}, got {side}"
            )
    references = chosen_references(request.references, recipe.max_references)
    people = {person.person: person.box for person in request.people}
    return Inputs(
        prompt=with_phrases(request.prompt, recipe.reference_phrases, len(references)),
        references=references,
        source=None,
        boxes=tuple(people.get(person) for person in range(max(people, default=-1) + 1)),
        width=width,
        height=height,
        output_size=(width, height),
    )


def _read_edit(recipe: Recipe, request: Request, size: Size) -> Inputs:
    if request.edit is None:
        raise UnusableRequestError("no_image", f"case {request.case_id} has no image to edit")
    if not request.edit.instruction:
        raise UnusableRequestError("no_instruction", f"case {request.case_id} says no edit")
    original = request.edit.original
    width, height = edit_size(original.size, size)
    return Inputs(
        prompt=with_phrases(request.edit.instruction, recipe.reference_phrases, 1),
        references=(),
        source=original,
        boxes=(),
        width=width,
        height=height,
        output_size=(request.width or original.width, request.height or original.height),
    )


def edit_size(original: tuple[int, int], size: Size) -> tuple[int, int]:
    """Width and height with the shape of an image and the area of `size`, in whole multiples."""
    scale = math.sqrt(size.width * size.height / (original[0] * original[1]))
    width, height = (
        max(1, round(side * scale / size.multiple_of)) * size.multiple_of for side in original
    )
    return width, height


def chosen_references(references: Sequence[Reference], limit: int | None) -> tuple[Reference, ...]:
    """At most `limit` references, one of each person before a second of any; persons in order."""
    if limit is None or len(references) <= limit:
        return tuple(references)
    rank: dict[int, int] = {}
    ranked = []
    for place, reference in enumerate(references):
        rank[reference.person] = rank.get(reference.person, -1) + 1
        ranked.append((rank[reference.person], place))
    return tuple(references[place] for _, place in sorted(sorted(ranked)[:limit], key=_place))


def _place(entry: tuple[int, int]) -> int:
    return entry[1]


def with_phrases(prompt: str, phrases: Sequence[str], count: int) -> str:
    """The prompt behind the phrases of its first `count` references."""
    return " ".join([*phrases[:count], prompt])
