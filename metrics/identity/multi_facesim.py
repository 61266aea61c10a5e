"""FaceSim of several people: who is in the image, and is anyone missing?"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from idbench.metrics.face_backends import ANTELOPEV2, BUFFALO_L, FACENET
from idbench.metrics.faces import FaceBackend, areas, eligible_faces
from idbench.metrics.matching import by_position, greedy, optimal
from idbench.metrics.protocol import (
    Metric,
    MetricInfo,
    Missing,
    MissingValueError,
    Observation,
)

# DynamicID's evaluation drops smaller faces; section 6.3 of its specification.
DYNAMICID_MIN_SIDE = 20.0


def people_of(observation: Observation) -> int:
    """How many people the case shows: one per subject, or per reference without subjects."""
    return len(observation.subjects) or len(observation.features.get("reference", ()))


def reference_embeddings(
    observation: Observation, backend: FaceBackend
) -> list[NDArray[np.floating]]:
    """Embedding of the largest face of each reference, in person order.

    Raises:
        MissingValueError: `no_reference` or `no_reference_face`, with the person's number.
    """
    found = []
    for person in range(people_of(observation)):
        boxes = observation.get("reference", backend.detector, person)["boxes"]
        if not len(boxes):
            raise MissingValueError("no_reference_face", f"person {person}")
        embeddings = observation.get("reference", backend.embedder, person)[backend.embedding]
        found.append(embeddings[int(np.argmax(areas(boxes)))])
    if not found:
        raise MissingValueError("no_reference", "the case has no references")
    return found


def similarity_matrix(
    observation: Observation, backend: FaceBackend, faces: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Similarity of each person with each of some faces of the generated image, `people faces`."""
    references = reference_embeddings(observation, backend)
    generated = observation.get("generated", backend.embedder)[backend.embedding][faces]
    if not len(faces):
        return np.empty((len(references), 0))
    return np.stack([backend.similarity(reference, generated) for reference in references])


class MultiFaceSimStrict:
    """Similarity of the people of a case and the faces of the image, assigned to one another.

    Section A.19 `strict` of the metric specification: the assignment with the largest sum.
    Variants:

    - "": sum of the matched similarities over the number of people; who has no face counts 0;
    - `matched`: mean over the people that have a face;
    - `min`: the lowest similarity, 0 for a person without a face;
    - `position`: as "", with the i-th face from the left for the i-th person;
    - `swapped`: 1 if the assignment contradicts the order from left to right, else 0;
    - `detected`: share of the people that have a face.

    Missing: `no_reference`, `no_reference_face`; `matched` and `swapped` also `no_face`.
    """

    version = 1

    def __init__(self, backend: FaceBackend) -> None:
        """Compares with the networks of `backend`."""
        self._backend = backend
        self.needs = backend.needs()
        self.info = MetricInfo(
            name="multi_facesim",
            protocol="strict",
            backend=backend.name,
            summary="similarity of people and faces under the best assignment, absent people 0",
            unit=backend.unit,
            higher_is_better=True,
            bounds=(-1.0, 1.0),
            axis="preservation",
            variants=("", "matched", "min", "position", "swapped", "detected"),
            papers=("DynamicID",),
            comparable_to_published=False,
        )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """All variants."""
        detected = observation.get("generated", self._backend.detector)
        faces = eligible_faces(detected)
        matrix = similarity_matrix(observation, self._backend, faces)
        people = len(matrix)
        assigned = optimal(matrix)
        boxes = np.asarray(detected["boxes"], np.float64).reshape(-1, 4)[faces]
        width = float(detected["image_size"][1])
        places = by_position(boxes, people, width, _centres(observation))
        lost = Missing("no_face", f"{self._backend.detector} found none")
        in_order = [face for _, face in sorted(assigned.pairs)]
        middles = boxes[in_order][:, ::2].mean(axis=1) if in_order else np.empty(0)
        swapped = bool((np.diff(middles) < 0).any())
        return {
            "": assigned.mean,
            "matched": assigned.matched_mean if assigned.pairs else lost,
            "min": assigned.minimum,
            "position": sum(float(matrix[pair]) for pair in places.items()) / people,
            "swapped": float(swapped) if assigned.pairs else lost,
            "detected": len(assigned.pairs) / people,
        }


class MultiFaceSimGreedy:
    """FastComposer's matching as DynamicID's specification completes it (section 6.3).

    Faces with a side below 20 pixels are dropped, the largest are kept, as many as people; pairs
    are taken greedily, negative similarities count 0 and people without a face 0. Variants: "" the
    mean over people, `min` FastComposer's lowest value.

    Missing: `no_reference`, `no_reference_face`.
    """

    version = 1

    def __init__(self, backend: FaceBackend) -> None:
        """Compares with the networks of `backend`."""
        self._backend = backend
        self.needs = backend.needs()
        self.info = MetricInfo(
            name="multi_facesim_greedy",
            protocol="strict",
            backend=backend.name,
            summary="similarity of people and faces matched greedily, as in FastComposer",
            unit=backend.unit,
            higher_is_better=True,
            bounds=(0.0, 1.0),
            axis="preservation",
            variants=("", "min"),
            papers=("DynamicID",),
        )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """Mean and minimum."""
        detected = observation.get("generated", self._backend.detector)
        faces = kept_faces(np.asarray(detected["boxes"]), people_of(observation))
        matrix = np.maximum(similarity_matrix(observation, self._backend, faces), 0.0)
        assigned = greedy(matrix)
        return {"": assigned.mean, "min": assigned.minimum}


def kept_faces(boxes: NDArray[np.floating], people: int) -> NDArray[np.int64]:
    """Indices of the faces that DynamicID's evaluation keeps, from left to right."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)
    large = np.flatnonzero(sides >= DYNAMICID_MIN_SIDE)
    largest = large[np.argsort(-areas(boxes[large]), kind="stable")[:people]]
    middles = boxes[largest][:, ::2].mean(axis=1)
    return largest[np.argsort(middles, kind="stable")]


def _centres(observation: Observation) -> NDArray[np.float64] | None:
    boxes = [subject.box for subject in observation.subjects]
    if not boxes or any(box is None for box in boxes):
        return None
    return np.array([(box[0] + box[2]) / 2 for box in boxes if box is not None])


def multi_facesim_antelopev2() -> Metric:
    """Assignment with ArcFace R100."""
    return MultiFaceSimStrict(ANTELOPEV2)


def multi_facesim_buffalo_l() -> Metric:
    """Assignment with ArcFace R50."""
    return MultiFaceSimStrict(BUFFALO_L)


def multi_facesim_greedy_facenet() -> Metric:
    """FastComposer's rule with FaceNet, its embedder."""
    return MultiFaceSimGreedy(FACENET)


def multi_facesim_greedy_antelopev2() -> Metric:
    """FastComposer's rule with ArcFace R100."""
    return MultiFaceSimGreedy(ANTELOPEV2)
