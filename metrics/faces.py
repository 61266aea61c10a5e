"""The named rule for which face of an image counts, shared by all strict face metrics.

Section A.1 of the metric specification, `strict`: of the reference the largest face counts; of the
generated image the face most like it among those that are big and certain enough.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from idbench.metrics.protocol import Features, MissingValueError, Observation, Role

MIN_SCORE = 0.5
MIN_SIDE = 24.0

Similarity = Callable[[NDArray[np.floating], NDArray[np.floating]], NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceBackend:
    """The networks that say where faces are and how alike they are.

    `detector` yields `boxes` (n, 4; x1 y1 x2 y2 in pixels) and `scores` (n,); `embedder` yields
    the array `embedding` (n, d), same order. `similarity` takes one embedding (d,) and several
    (n, d), and gives n numbers, larger for more alike.
    """

    name: str
    detector: str
    embedder: str
    embedding: str
    similarity: Similarity
    bounds: tuple[float, float]
    unit: str

    def needs(
        self, *others: str, generated: tuple[str, ...] = ()
    ) -> Mapping[Role, tuple[str, ...]]:
        """The extractors of both roles with `others` added, and `generated` for that role only."""
        names = tuple(dict.fromkeys((self.detector, self.embedder, *others)))
        return {"reference": names, "generated": (*names, *generated)}


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceMatch:
    """Which faces are compared: index of a face in the reference and in the generated image.

    `best` is the face most like the reference and `best_similarity` how alike they are; `largest`
    and `largest_similarity` those of the largest face. `n_faces` counts the faces that are
    eligible.
    """

    reference: int
    best: int
    best_similarity: float
    largest: int
    largest_similarity: float
    n_faces: int


def dlib_similarity(
    embedding: NDArray[np.floating], others: NDArray[np.floating]
) -> NDArray[np.float64]:
    """1 - d/1.2 with d the Euclidean distance of dlib descriptors.

    1 for equal descriptors, 0.5 at d = 0.6, dlib's customary threshold for the same person. Their
    cosine is useless: different people score 0.74 to 0.90.
    """
    distance = np.linalg.norm(np.asarray(others, np.float64) - embedding, axis=-1)
    similarity: NDArray[np.float64] = 1 - distance / 1.2
    return similarity


DLIB = FaceBackend(
    name="dlib",
    detector="mtcnn",
    embedder="dlib_face",
    embedding="descriptors",
    similarity=dlib_similarity,
    # Descriptors have norm about 1.4, nothing holds them to it: there is no lower bound.
    bounds=(-np.inf, 1.0),
    unit="1 - distance/1.2",
)


def areas(boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Areas of boxes `n 4`, rows x1 y1 x2 y2."""
    area: NDArray[np.float64] = np.prod(np.asarray(boxes, np.float64)[:, 2:] - boxes[:, :2], axis=1)
    return area


def eligible_faces(detected: Features) -> NDArray[np.int64]:
    """Indices of faces with score >= 0.5 whose shorter side is >= 24 pixels."""
    boxes = np.asarray(detected["boxes"], np.float64).reshape(-1, 4)
    side = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)
    return np.flatnonzero((np.asarray(detected["scores"]) >= MIN_SCORE) & (side >= MIN_SIDE))


def match_faces(
    observation: Observation,
    backend: FaceBackend,
    *,
    person: int = 0,
    reference: Role = "reference",
    generated: Role = "generated",
) -> FaceMatch:
    """The faces of reference number `person` and of the generated image that are compared.

    Args:
        observation: What is scored.
        backend: The networks.
        person: Number of the reference.
        reference: Role of the image whose largest face counts.
        generated: Role of the image in which the face most like it is looked for.

    Raises:
        MissingValueError: `no_reference_face` or `no_face` (`no_<role>_face` for other roles);
            `several_people` if the case asks for more than one person, whom a metric of one face
            cannot tell apart.
    """
    if len(observation.subjects) > 1:
        raise MissingValueError(
            "several_people", f"the case has {len(observation.subjects)} people, the metric one"
        )
    reference_boxes = observation.get(reference, backend.detector, person)["boxes"]
    if not len(reference_boxes):
        raise MissingValueError(f"no_{reference}_face", f"{backend.detector} found none")
    reference_face = int(np.argmax(areas(reference_boxes)))
    detected = observation.get(generated, backend.detector)
    eligible = eligible_faces(detected)
    if not len(eligible):
        raise MissingValueError(
            "no_face" if generated == "generated" else f"no_{generated}_face",
            f"{backend.detector} found {len(detected['scores'])} faces, none with score >= "
            f"{MIN_SCORE} and sides >= {MIN_SIDE:g} pixels",
        )
    similarity = backend.similarity(
        observation.get(reference, backend.embedder, person)[backend.embedding][reference_face],
        observation.get(generated, backend.embedder)[backend.embedding][eligible],
    )
    best = int(np.argmax(similarity))
    largest = int(np.argmax(areas(np.asarray(detected["boxes"])[eligible])))
    return FaceMatch(
        reference=reference_face,
        best=int(eligible[best]),
        best_similarity=float(similarity[best]),
        largest=int(eligible[largest]),
        largest_similarity=float(similarity[largest]),
        n_faces=len(eligible),
    )
