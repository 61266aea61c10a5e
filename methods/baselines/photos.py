"""Which photographs of a request a baseline starts from."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from idbench.methods.protocol import Failure, Reference, Request

Box = tuple[float, float, float, float]

# Kinds whose people or subjects appear side by side; the others show one photograph.
SIDE_BY_SIDE = ("multi_id", "multi_subject")


class NoImageError(Exception):
    """Raised where a baseline cannot answer a request; becomes its `Failure`."""

    def __init__(self, reason: str, detail: str) -> None:
        """Keeps the reason, a slug, and the detail for people."""
        super().__init__(f"{reason}: {detail}")
        self.failure = Failure(reason, detail)


@dataclass(frozen=True, kw_only=True, slots=True)
class Photo:
    """A photograph and the box of the face in it, in pixels; None where nobody has marked it.

    `place` is the box of the canvas that the case gives to this person, relative, in [0, 1].
    """

    image: Image.Image
    face_box: Box | None = None
    place: Box | None = None


def photos_of(request: Request) -> list[Photo]:
    """The photographs that a request is about, in the order in which people stand.

    One reference of an identity or subject; for several people the first reference of each, from
    left to right by the boxes of the case, else by person. For an edit, the edited image.

    Raises:
        NoImageError: If the request has no reference, or is an edit without images.
    """
    if request.kind == "edit_restoration":
        return [edit_photo(request, of="edited")]
    if not request.references:
        raise NoImageError("no_reference", f"case {request.case_id} comes without a reference")
    if request.kind not in SIDE_BY_SIDE:
        return [photo(_main(request.references))]
    boxes = {person.person: person.box for person in request.people}
    first: dict[int, Reference] = {}
    for reference in request.references:
        first.setdefault(reference.person, reference)
    slots = [photo(first[person], place=boxes.get(person)) for person in sorted(first)]
    if all(slot.place for slot in slots):
        slots.sort(key=lambda slot: slot.place[0] + slot.place[2] if slot.place else 0.0)
    return slots


def edit_photo(request: Request, *, of: str) -> Photo:
    """The `"edited"` or the `"original"` image of an edit, with the face to restore if it is known.

    Raises:
        NoImageError: If the request brings no edit.
    """
    if request.edit is None:
        raise NoImageError("no_edit", f"case {request.case_id} comes without its edited image")
    restored = [face for face in request.edit.faces if face.restore]
    if of == "original":
        box = restored[0].original_box if len(restored) == 1 else None
        return Photo(image=rgb(request.edit.original), face_box=box)
    box = restored[0].edited_box if len(restored) == 1 else None
    return Photo(image=rgb(request.edit.edited), face_box=box)


def photo(reference: Reference, *, place: Box | None = None) -> Photo:
    """The photograph of a reference."""
    return Photo(image=rgb(reference.image), face_box=reference.face_box, place=place)


def rgb(image: Image.Image) -> Image.Image:
    """The image in mode RGB; the very object if it is RGB already."""
    return image if image.mode == "RGB" else image.convert("RGB")


def _main(references: Sequence[Reference]) -> Reference:
    for reference in references:
        if reference.role in ("identity", "subject"):
            return reference
    return references[0]
