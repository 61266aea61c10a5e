"""FaceSim: how much the generated face looks like the reference."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from idbench.metrics.cosine import cosine
from idbench.metrics.face_backends import ANTELOPEV2, BUFFALO_L, FACENET
from idbench.metrics.faces import DLIB, FaceBackend, match_faces
from idbench.metrics.protocol import (
    Metric,
    MetricInfo,
    Missing,
    MissingValueError,
    Observation,
    Role,
)


def first_embedding(
    observation: Observation, role: Role, backend: FaceBackend
) -> NDArray[np.floating]:
    """Embedding of the face that IBench takes: `faces[0]`, the highest detection score.

    It need not be the largest face, nor the one most like the reference.

    Raises:
        MissingValueError: `no_reference_face`, `no_face` or `no_base_face`, where IBench drops the
            item.
    """
    found = observation.get(role, backend.embedder)[backend.embedding]
    if not len(found):
        reason = "no_face" if role == "generated" else f"no_{role}_face"
        raise MissingValueError(reason, f"{backend.detector} found none")
    embedding: NDArray[np.floating] = found[0]
    return embedding


class FaceSimIBench:
    """Cosine of the ArcFace embeddings of the first face of each image, in [-1, 1].

    FaceSim of IBench, metrics/imageid/facesim.py: detector and recogniser of insightface's
    antelopev2, detection size 640, the face with the highest detection score in both images.

    Missing: `no_reference_face`, `no_face`, where IBench drops the item without a word.
    """

    version = 1
    needs = ANTELOPEV2.needs()
    info = MetricInfo(
        name="facesim",
        protocol="ibench",
        backend=ANTELOPEV2.name,
        summary="cosine of the ArcFace embeddings of the first faces",
        unit="cosine",
        higher_is_better=True,
        bounds=(-1.0, 1.0),
        axis="preservation",
        papers=("EditIDv2", "FlexID"),
    )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """Cosine of the two first faces."""
        reference = first_embedding(observation, "reference", ANTELOPEV2)
        return {"": cosine(reference, first_embedding(observation, "generated", ANTELOPEV2))}


class FaceSimStrict:
    """Similarity of the reference face and the face most like it in the generated image.

    Section A.1 `strict` of the metric specification. Variants: "" the most similar face, `largest`
    the largest one; with `floor` also `penalised`, the most similar face or, where the generated
    image shows no face, the floor.

    Missing: `no_reference_face`, `no_face`, `several_people`.
    """

    version = 1

    def __init__(self, backend: FaceBackend, *, floor: float | None = None) -> None:
        """Scores with the detector and the embedder of `backend`."""
        self._backend = backend
        self._floor = floor
        self.needs = backend.needs()
        self.info = MetricInfo(
            name="facesim",
            protocol="strict",
            backend=backend.name,
            summary="similarity of the reference face and the most similar generated face",
            unit=backend.unit,
            higher_is_better=True,
            bounds=backend.bounds,
            axis="preservation",
            variants=("", "largest") if floor is None else ("", "largest", "penalised"),
            papers=("EditIDv2", "FlexID", "DynamicID"),
            comparable_to_published=False,
        )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """Similarity of the best and of the largest face."""
        try:
            match = match_faces(observation, self._backend)
        except MissingValueError as error:
            if self._floor is None or error.missing.reason != "no_face":
                raise
            lost = error.missing
            return {"": lost, "largest": lost, "penalised": self._floor}
        values = {"": match.best_similarity, "largest": match.largest_similarity}
        if self._floor is not None:
            values["penalised"] = match.best_similarity
        return values


def facesim_dlib() -> Metric:
    """FaceSim with dlib's descriptor, which needs no download."""
    return FaceSimStrict(DLIB)


def facesim_antelopev2() -> Metric:
    """FaceSim with ArcFace R100, the networks of IBench."""
    return FaceSimStrict(ANTELOPEV2, floor=0.0)


def facesim_buffalo_l() -> Metric:
    """FaceSim with ArcFace R50."""
    return FaceSimStrict(BUFFALO_L, floor=0.0)


def facesim_facenet() -> Metric:
    """FaceSim with FaceNet on MTCNN's faces, which DynamicID cites."""
    return FaceSimStrict(FACENET, floor=0.0)
