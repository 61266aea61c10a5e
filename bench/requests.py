"""Turns cases into requests: finds the files, decodes the references, adds the seed."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from idbench.methods.protocol import Edit, EditFace, Element, Person, Reference, Request
from idbench.metrics.images import read_rgb
from idbench.prompts.cases import Case, File
from idbench.prompts.cases import Reference as CaseReference
from idbench.prompts.sources import resolve


@lru_cache(maxsize=64)
def _image(path: Path) -> Image.Image:
    return Image.fromarray(read_rgb(path))


def read_reference(reference: CaseReference, data_root: Path) -> Reference:
    """A reference with its pixels.

    Raises:
        FileNotFoundError: If its source is not here.
        idbench.metrics.images.ImageError: If the file is no usable image.
    """
    return Reference(
        image=_image(resolve(reference, reference.source, data_root)).copy(),
        sha256=reference.sha256,
        role=reference.role,
        person=reference.person,
        class_word=reference.class_word,
        gender=reference.gender,
        face_box=reference.face_box,
    )


def build_request(
    case: Case,
    sample: int,
    seed: int,
    *,
    data_root: Path,
    alias: str = "",
    distractor: CaseReference | None = None,
    size: tuple[int, int] | None = None,
    prompt: str | None = None,
) -> Request:
    """The request for sample `sample` of `case`.

    `alias` is given only where it is unique in the suite; `prompt` goes before the case's own.
    """
    width, height = size or (None, None)
    return Request(
        case_id=case.case_id,
        alias=alias,
        sample=sample,
        seed=seed,
        prompt=prompt or case.prompt,
        kind=case.kind,
        references=tuple(read_reference(reference, data_root) for reference in case.references),
        people=tuple(
            Person(
                person=person.person,
                expression=person.expression,
                orientation=person.orientation,
                box=person.box,
            )
            for person in case.people
        ),
        edit=_edit(case, data_root),
        distractor=read_reference(distractor, data_root) if distractor else None,
        width=width,
        height=height,
    )


def _edit(case: Case, data_root: Path) -> Edit | None:
    if case.edit is None:
        return None
    source = case.edit.source

    def image(file: File) -> Image.Image:
        return _image(resolve(file, source, data_root)).copy()

    def mask(file: File) -> Image.Image:
        white = np.asarray(image(file).convert("L")) >= 128
        return Image.fromarray((white * 255).astype(np.uint8))

    return Edit(
        original=image(case.edit.original),
        edited=image(case.edit.edited),
        instruction=case.edit.instruction,
        elements=tuple(
            Element(
                text=element.text,
                mask=mask(element.mask) if element.mask else None,
                person=element.person,
            )
            for element in case.edit.elements
        ),
        faces=tuple(
            EditFace(
                person=face.person,
                original_box=face.original_box,
                edited_box=face.edited_box,
                restore=face.restore,
            )
            for face in case.edit.faces
        ),
    )


def distractors(cases: Sequence[Case]) -> dict[str, CaseReference]:
    """For each case id, a reference of another identity of the suite.

    The identities of the suite stand in a ring, sorted by reference id; a case gets the next one
    on the ring that it does not hold itself, so the choice depends on the suite alone. Cases of a
    suite with no other identity are left out.
    """
    ring = sorted(
        {ref.sha256: ref for case in cases for ref in case.references}.values(),
        key=lambda ref: ref.ref_id,
    )
    position = {ref.sha256: place for place, ref in enumerate(ring)}
    chosen = {}
    for case in cases:
        own = {ref.sha256 for ref in case.references}
        start = position[case.references[0].sha256] if case.references else 0
        after = (ring[(start + 1 + step) % len(ring)] for step in range(len(ring)))
        other = next((ref for ref in after if ref.sha256 not in own), None)
        if other is not None:
            chosen[case.case_id] = other
    return chosen
