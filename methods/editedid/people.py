"""Who is who: which face of the edited image is which of the original, and what belongs to it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import label
from scipy.optimize import linear_sum_assignment

from idbench.methods.editedid.faces import (
    Box,
    Face,
    FaceDetector,
    NoFaceError,
    intersection_over_union,
)
from idbench.methods.editedid.jobs import FacePlace, Job
from idbench.methods.editedid.masks import mask_image

# The paper leaves association open; chosen here: no pair above this cost, and the share of
# identity in it.
MAX_COST, IDENTITY_SHARE = 0.9, 0.5
# Images whose aspect ratios differ by less show the scene from the same place.
_SAME_ASPECT = 0.02
# Two boxes of one face found by different means overlap at least so much.
_SAME_FACE_IOU = 0.3
# Boxes that differ by less than this share of the face are at the same place.
_SAME_PLACE = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class PersonFaces:
    """One person in both images; `original` is None where the two frames are taken as one."""

    person: int
    original: Face | None
    edited: Face


@dataclass(frozen=True, kw_only=True, slots=True)
class People:
    """Whose faces are to be restored, left to right; `left_out` says whose are not, and why."""

    people: list[PersonFaces]
    left_out: list[str]


def find_people(job: Job, edited: Image.Image, detector: FaceDetector | None) -> People:
    """Finds the people whose faces are to be restored.

    Known places come first, then stated pairs, then association of detected faces. Where the edit
    has destroyed its faces, those of the original stand for them at the same place.

    Args:
        job: What is asked.
        edited: Its edited image, restored or not.
        detector: Finds faces; None where the places are known.

    Raises:
        NoFaceError: If there is nobody.
    """
    scale = np.tile(np.array(edited.size) / np.array(job.original.size), 2)
    if job.places:
        places = [place for place in job.places if place.restore]
        people = [_placed(place, job, edited, detector, scale) for place in places]
        if not people:
            raise NoFaceError("no face is to be restored: every known place says restore=False")
        ordered = sorted(people, key=lambda person: person.edited.centre[0])
        return People(people=ordered, left_out=[])
    if detector is None:
        raise NoFaceError("no face detector and no known place; give boxes or set detector")
    originals, found = detector(job.original), detector(edited)
    if job.pairs is not None:
        matches = _checked(job.pairs, len(originals), len(found))
    elif originals and not found:
        places = [FacePlace(person=i, original_box=f.box) for i, f in enumerate(originals)]
        return People(
            people=[_placed(place, job, edited, None, scale) for place in places], left_out=[]
        )
    else:
        sizes = job.original.size, edited.size
        ratio = (sizes[0][0] / sizes[0][1]) / (sizes[1][0] / sizes[1][1])
        matches = associate(originals, found, sizes, registered=abs(ratio - 1.0) < _SAME_ASPECT)
    if not matches:
        raise NoFaceError(
            f"no face to restore: {len(originals)} found in the original and {len(found)} in the "
            "edited image, none of them the same; give boxes or pairs"
        )
    return People(
        people=[PersonFaces(person=i, original=originals[o], edited=found[i]) for o, i in matches],
        left_out=[
            *_unmatched("original", originals, {o for o, _ in matches}),
            *_unmatched("edited image", found, {i for _, i in matches}),
        ],
    )


def _unmatched(where: str, faces: Sequence[Face], matched: set[int]) -> list[str]:
    return [
        f"the face at {', '.join(f'{edge:.0f}' for edge in face.box)} of the {where} was not "
        "found in the other image; give its box"
        for index, face in enumerate(faces)
        if index not in matched
    ]


def associate(
    originals: Sequence[Face],
    edited: Sequence[Face],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    *,
    registered: bool = True,
) -> list[tuple[int, int]]:
    """Pairs of indices (original, edited) of the same person, in the order of `edited`.

    Hungarian assignment on 1 - IoU of the boxes, brought to one frame by the sizes of the images;
    where the images are not registered and both faces have embeddings, half of
    (1 - cosine similarity) is added. Pairs that cost more than 0.9 are left out.

    Args:
        originals: Faces of the original image.
        edited: Faces of the edited image.
        sizes: (width, height) of the original and of the edited image.
        registered: Whether both show the scene from the same place.
    """
    if not originals or not edited:
        return []
    scale = np.tile(np.array(sizes[1]) / np.array(sizes[0]), 2)
    costs = np.empty((len(originals), len(edited)))
    for row, first in enumerate(originals):
        for column, second in enumerate(edited):
            cost = 1.0 - intersection_over_union(_scaled(first.box, scale), second.box)
            if not registered and first.embedding is not None and second.embedding is not None:
                cost += IDENTITY_SHARE * (1.0 - float(first.embedding @ second.embedding))
            costs[row, column] = cost
    pairs = zip(*linear_sum_assignment(costs), strict=True)
    kept = [(int(o), int(e)) for o, e in pairs if costs[o, e] <= MAX_COST]
    return sorted(kept, key=lambda pair: pair[1])


def bind_mask(mask: Image.Image, boxes: Sequence[Box]) -> list[Image.Image | None]:
    """Splits a mask among people: each connected part goes to the face box it overlaps most.

    A part that overlaps no box goes to the nearest one, since a hat may stand above the box.

    Args:
        mask: Mode "L"; 128 and more is the element.
        boxes: Face boxes in pixels of the mask.

    Returns:
        A mask per box, None for those that got nothing.
    """
    parts, count = label(np.asarray(mask.convert("L")) >= 128, structure=np.ones((3, 3)))
    shares: list[NDArray[np.bool_]] = [np.zeros(parts.shape, dtype=bool) for _ in boxes]
    for number in range(1, count + 1):
        part = parts == number
        shares[_owner(part, boxes)] |= part
    return [mask_image(share) if share.any() else None for share in shares]


def _owner(part: NDArray[np.bool_], boxes: Sequence[Box]) -> int:
    rows, columns = np.nonzero(part)
    inside = [
        int(((columns >= x0) & (columns < x1) & (rows >= y0) & (rows < y1)).sum())
        for x0, y0, x1, y1 in boxes
    ]
    if max(inside) > 0:
        return int(np.argmax(inside))
    centre = np.array([columns.mean(), rows.mean()])
    middles = [np.array(Face(box=box).centre) for box in boxes]
    return int(np.argmin([np.linalg.norm(centre - middle) for middle in middles]))


def _placed(
    place: FacePlace,
    job: Job,
    edited: Image.Image,
    detector: FaceDetector | None,
    scale: NDArray[np.float64],
) -> PersonFaces:
    """The faces at a known place, with landmarks where they are needed and the detector sees them.

    A place with one box, or with equal ones, says that the two frames are one.
    """
    given = [box for box in (place.edited_box, place.original_box) if box is not None]
    box_i = place.edited_box or _scaled(given[0], scale)
    face_i = Face(box=box_i)
    if len(given) == 1 or place.original_box is None:
        return PersonFaces(person=place.person, original=None, edited=face_i)
    distance = np.abs(np.array(_scaled(place.original_box, scale)) - np.array(box_i)).max()
    if distance < _SAME_PLACE * face_i.size:
        return PersonFaces(person=place.person, original=None, edited=face_i)
    faces = [Face(box=place.original_box), face_i]
    if detector is not None:
        found = detector(job.original), detector(edited)
        faces = [_refined(face, seen) for face, seen in zip(faces, found, strict=True)]
    return PersonFaces(person=place.person, original=faces[0], edited=faces[1])


def _refined(face: Face, found: Sequence[Face]) -> Face:
    def overlap(other: Face) -> float:
        return intersection_over_union(other.box, face.box)

    best = max(found, key=overlap, default=None)
    if best is None or overlap(best) < _SAME_FACE_IOU:
        return face
    return Face(box=face.box, landmarks=best.landmarks, embedding=best.embedding)


def _checked(
    pairs: Sequence[tuple[int, int]], originals: int, edited: int
) -> list[tuple[int, int]]:
    for o, i in pairs:
        if not (0 <= o < originals and 0 <= i < edited):
            raise NoFaceError(
                f"pair {o}:{i} names a face that is not there: {originals} found in the original, "
                f"{edited} in the edited image, counted from 0 at the left"
            )
    return sorted(pairs, key=lambda pair: pair[1])


def _scaled(box: Box, scale: NDArray[np.float64]) -> Box:
    x0, y0, x1, y1 = (np.array(box) * scale).tolist()
    return (x0, y0, x1, y1)
