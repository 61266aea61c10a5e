"""Which face is asked for which expression or orientation, for one person and for several."""

import numpy as np
from numpy.typing import NDArray

from idbench.metrics.faces import FaceBackend, match_faces
from idbench.metrics.identity.multi_facesim import kept_faces
from idbench.metrics.matching import by_position
from idbench.metrics.protocol import MissingValueError, Observation, Subject


def faces_asked_for(
    observation: Observation, backend: FaceBackend, asked: str
) -> list[tuple[Subject, int | None]]:
    """Every person of whom the case asks something, with the index of their face or None.

    One person has the face that FaceSim compares. Several are told apart by position, because
    prompts bind attributes to left and right (section 6.6 of DynamicID's specification): the i-th
    of the largest faces from the left belongs to the i-th person; with fewer faces than people each
    goes to the person nearest to it.

    Args:
        observation: What is scored.
        backend: The networks that find and match faces.
        asked: Field of `Subject` that must be set, "expression" or "orientation".

    Raises:
        MissingValueError: `not_asked` if the case asks it of nobody; `no_reference_face`.
    """
    subjects = observation.subjects
    wanted = [subject for subject in subjects if getattr(subject, asked) is not None]
    if not wanted:
        raise MissingValueError("not_asked", f"the case asks for no {asked}")
    if len(subjects) == 1:
        return [(wanted[0], _single(observation, backend))]
    detected = observation.get("generated", backend.detector)
    boxes = np.asarray(detected["boxes"], np.float64).reshape(-1, 4)
    kept = kept_faces(boxes, len(subjects))
    width = float(detected["image_size"][1])
    places = by_position(boxes[kept], len(subjects), width, _centres(subjects))
    return [
        (subject, int(kept[places[number]]) if number in places else None)
        for number, subject in enumerate(subjects)
        if getattr(subject, asked) is not None
    ]


def _single(observation: Observation, backend: FaceBackend) -> int | None:
    try:
        return match_faces(observation, backend).best
    except MissingValueError as error:
        if error.missing.reason == "no_face":
            return None
        raise


def _centres(subjects: tuple[Subject, ...]) -> NDArray[np.float64] | None:
    boxes = [subject.box for subject in subjects]
    if any(box is None for box in boxes):
        return None
    return np.array([(box[0] + box[2]) / 2 for box in boxes if box is not None])
