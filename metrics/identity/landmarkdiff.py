"""Landmarkdiff: how far the five facial landmarks moved, apart from shift and scale."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from idbench.metrics.faces import DLIB, FaceBackend, match_faces
from idbench.metrics.protocol import (
    Metric,
    MetricInfo,
    Missing,
    MissingValueError,
    Observation,
    Role,
)

Points = NDArray[np.floating]

# Normalised points lie in a box of diagonal 1, so no two are farther apart than 2.
BOUNDS = (0.0, 2.0)


def normalised(points: Points) -> NDArray[np.float64]:
    """Points `5 2` about their mean, in units of the diagonal of their bounding box (1 if 0)."""
    points = np.asarray(points, np.float64)
    diagonal = float(np.linalg.norm(points.max(axis=0) - points.min(axis=0)))
    result: NDArray[np.float64] = (points - points.mean(axis=0)) / (diagonal or 1.0)
    return result


def landmark_difference(a: Points, b: Points) -> float:
    """Mean distance of normalised points; 0 for equal shapes, whatever their place and size.

    A rotation counts: 15 degrees of pure roll give 0.104. IBench metrics/landmarkdiff; section A.5
    of the metric specification.
    """
    return float(np.linalg.norm(normalised(a) - normalised(b), axis=1).mean())


def procrustes_difference(a: Points, b: Points) -> float:
    """As `landmark_difference`, after the similarity that best carries `b` to `a`.

    Rotation no longer counts. The similarity is Umeyama's least-squares fit (1991), without
    reflection.
    """
    target, source = normalised(a), normalised(b)
    variance = float((source**2).sum())
    if variance == 0:
        return float(np.linalg.norm(target, axis=1).mean())
    u, singular, vt = np.linalg.svd(target.T @ source)
    signs = np.array([1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ np.diag(signs) @ vt
    scale = float((singular * signs).sum()) / variance
    return float(np.linalg.norm(target - scale * source @ rotation.T, axis=1).mean())


class LandmarkdiffIBench:
    """Landmarkdiff of IBench, on MTCNN's integer points of the first face of each image.

    The first face is the one with the highest detection score, not necessarily the same person.

    Missing: `no_reference_face`, `no_face`, where IBench drops the item.
    """

    version = 1
    needs: Mapping[Role, tuple[str, ...]] = {
        "reference": ("mtcnn_native",),
        "generated": ("mtcnn_native",),
    }
    info = MetricInfo(
        name="landmarkdiff",
        protocol="ibench",
        backend="mtcnn",
        summary="shift of five landmarks between the first faces, in face sizes",
        unit="face diagonals",
        higher_is_better=True,
        bounds=BOUNDS,
        axis="editability",
        papers=("EditIDv2", "FlexID"),
    )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """Landmark difference of the two first faces."""
        reference = observation.get("reference", "mtcnn_native")["points_rounded"]
        generated = observation.get("generated", "mtcnn_native")["points_rounded"]
        if not len(reference):
            raise MissingValueError("no_reference_face", "mtcnn found none")
        if not len(generated):
            raise MissingValueError("no_face", "mtcnn found none")
        return {"": landmark_difference(reference[0], generated[0])}


class LandmarkdiffStrict:
    """Landmarkdiff on unrounded points of the faces that FaceSim compares.

    Variants: "" the published formula, `procrustes` without in-plane rotation.

    Missing: `no_reference_face`, `no_face`, `several_people`.
    """

    version = 1
    info = MetricInfo(
        name="landmarkdiff",
        protocol="strict",
        backend="mtcnn",
        summary="shift of five landmarks between the matched faces, in face sizes",
        unit="face diagonals",
        higher_is_better=True,
        bounds=BOUNDS,
        axis="editability",
        variants=("", "procrustes"),
        papers=("EditIDv2", "FlexID"),
        comparable_to_published=False,
    )

    def __init__(self, backend: FaceBackend) -> None:
        """Matches faces with `backend`."""
        self._backend = backend
        self.needs = backend.needs("mtcnn")

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """Landmark differences of the matched faces."""
        match = match_faces(observation, self._backend)
        reference = observation.get("reference", "mtcnn")["points"][match.reference]
        generated = observation.get("generated", "mtcnn")["points"][match.best]
        return {
            "": landmark_difference(reference, generated),
            "procrustes": procrustes_difference(reference, generated),
        }


def landmarkdiff_mtcnn() -> Metric:
    """Strict Landmarkdiff with faces matched by dlib's descriptor."""
    return LandmarkdiffStrict(DLIB)
