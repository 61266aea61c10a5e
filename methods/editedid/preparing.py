"""From people and elements to registered crops with masks and prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from idbench.methods.editedid.config import EditedIDConfig
from idbench.methods.editedid.faces import Face
from idbench.methods.editedid.jobs import EditedElement, Job
from idbench.methods.editedid.masks import (
    Mask,
    MissingMaskError,
    face_oval,
    mask_image,
    parsed_mask,
    user_mask,
)
from idbench.methods.editedid.parsing import FaceParser
from idbench.methods.editedid.people import PersonFaces, bind_mask
from idbench.methods.editedid.pipeline import FacePair
from idbench.methods.editedid.registration import Crop, center_crop, face_crop, register
from idbench.methods.editedid.text import prompts_for


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedFace:
    """A registered pair, and where its result goes.

    Attributes:
        person: Counted from the left in the edited image.
        pair: What the pipeline takes.
        crop: Square of the edited image.
        face_area: Of the face box, in square pixels.
        registration_error: In face sizes; None where the two frames were taken as one.
    """

    person: int
    pair: FacePair
    crop: Crop
    face_area: float
    registration_error: float | None


def prepare_face(
    job: Job,
    edited: Image.Image,
    person: PersonFaces,
    elements: Sequence[EditedElement],
    *,
    resolution: int,
    parser: FaceParser | None,
    config: EditedIDConfig,
) -> PreparedFace:
    """Registers and crops one face, finds the masks of its elements, makes its prompts.

    Elements of which nothing lies in the crop are left out.

    Args:
        job: What is asked.
        edited: Its edited image, restored or not.
        person: Faces.
        elements: Those of this person, with masks of the edited image's size or none.
        resolution: Side of the crops.
        parser: Finds elements without a mask.
        config: Settings.

    Raises:
        RegistrationError: If the faces do not fit on each other.
        MissingMaskError: If nothing says where an element is.
    """
    size, face_i = edited.size, person.edited
    registration = register(job.original.size, person.original, size, face_i, config)
    crop = (
        center_crop(size)
        if config.preprocess == "center_crop"
        else face_crop(face_i, size, config.crop_scale)
    )
    original = _Side(crop, resolution, registration.bring(job.original), registration.face, parser)
    intermediate = _Side(crop, resolution, edited, face_i, parser)
    given = {
        name: user_mask(registration.bring(mask_image(user_mask(mask, job.original.size))), size)
        for name, mask in job.identity_masks
    }
    mask_o = np.zeros((resolution, resolution), dtype=bool)
    for name in job.identity:
        mask_o |= original.mask(name, given.get(name))
    mask_i, kept = np.zeros_like(mask_o), []
    for element in elements:
        known = None if element.mask is None else user_mask(element.mask, size)
        mask = intermediate.mask(element.text, known)
        mask_i |= mask
        if mask.any() and element.text not in kept:
            kept.append(element.text)
    if not mask_o.any() and not mask_i.any():
        raise MissingMaskError(
            f"nothing of {', '.join(job.identity)} is seen in the face of person {person.person}, "
            "and no element of the edit either; give a mask"
        )
    x0, y0, x1, y1 = face_i.box
    return PreparedFace(
        person=person.person,
        pair=FacePair(
            original=original.image,
            intermediate=intermediate.image,
            mask_o=mask_o,
            mask_i=mask_i,
            prompts=job.prompts or prompts_for(job.identity, kept),
        ),
        crop=crop,
        face_area=(x1 - x0) * (y1 - y0),
        registration_error=registration.error,
    )


def elements_by_person(
    job: Job, people: Sequence[PersonFaces], size: tuple[int, int]
) -> list[list[EditedElement]]:
    """The elements of each person; masks that name nobody are shared out by overlap."""
    boxes = [person.edited.box for person in people]
    shares: list[list[EditedElement]] = [[] for _ in people]
    for element in job.elements:
        masks: Sequence[Image.Image | None] = [None] * len(people)
        if element.mask is not None:
            whole = mask_image(user_mask(element.mask, size))
            masks = bind_mask(whole, boxes) if element.person is None else [whole] * len(people)
        for share, person, mask in zip(shares, people, masks, strict=True):
            named = element.person in (None, person.person)
            if named and (mask is not None or element.mask is None):
                share.append(EditedElement(text=element.text, mask=mask, person=person.person))
    return shares


class _Side:
    """One of the two images of a pair, cropped, and how elements are found in it."""

    def __init__(
        self, crop: Crop, side: int, image: Image.Image, face: Face, parser: FaceParser | None
    ) -> None:
        self._crop, self._side, self._parser = crop, side, parser
        self._face = crop.face(face, side)
        self.image = crop.image(image.convert("RGB"), side)
        self._labels = None if parser is None else parser(self.image, self._face)

    def mask(self, name: str, given: Mask | None) -> Mask:
        """Where an element is: by a mask of the image, by the parser, or the oval of a face."""
        if given is not None:
            cut = self._crop.image(mask_image(given), self._side)
            return user_mask(cut, cut.size)
        if self._parser is not None and self._labels is not None:
            return parsed_mask(name, self._labels, self._parser.labels)
        if name in ("face", "head"):
            return face_oval(self._face.box, self.image.size)
        raise MissingMaskError(
            f"no mask for the element {name!r} and no face parser; give a mask or set parser"
        )
