"""Copy-paste: is the generated face the reference photo again, or the person?"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from idbench.metrics.cosine import cosine
from idbench.metrics.face_backends import ANTELOPEV2, BUFFALO_L
from idbench.metrics.faces import FaceBackend, match_faces
from idbench.metrics.protocol import (
    Metric,
    MetricInfo,
    Missing,
    MissingValueError,
    Observation,
    Role,
)

# Two photos of a person closer than this (radians) are one photo; the ratio says nothing then.
MIN_ANGLE = 1e-2


def angle(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Angle between two embeddings in radians, in [0, pi]."""
    return float(np.arccos(cosine(a, b)))


def copy_paste(generated_truth: float, generated_reference: float, truth_reference: float) -> float:
    """(angle to the ground truth - angle to the reference) / angle between those two, in [-1, 1].

    1 where the generated face is the reference's, -1 where it is the ground truth's, 0 where it is
    as far from both. The bounds hold by the triangle inequality of angles on the sphere. Equation
    of WithAnyone (arXiv 2510.14975), as MultiID-Bench computes it.

    Raises:
        ValueError: If `truth_reference` is not positive.
    """
    if truth_reference <= 0:
        raise ValueError(
            f"the angle between truth and reference must be > 0, got {truth_reference}"
        )
    ratio = (generated_truth - generated_reference) / truth_reference
    return float(np.clip(ratio, -1.0, 1.0))


class CopyPaste:
    """Where the generated face lies between the reference photo and another photo of the person.

    Needs a ground truth, as MultiID-Bench has one: another photograph that the prompt describes.
    Lower is better: a face that only repeats the reference scores 1. Variants: "" the ratio;
    `to_truth` and `to_reference`, the two cosines it is made of.

    Missing: `no_ground_truth`, `no_ground_truth_face`, `no_reference_face`, `no_face`,
    `same_photo` where truth and reference coincide, `several_people`.
    """

    version = 1

    def __init__(self, backend: FaceBackend) -> None:
        """Measures angles in the embedding of `backend`."""
        self._backend = backend
        names = (backend.detector,)
        self.needs: Mapping[Role, tuple[str, ...]] = {
            "reference": names,
            "ground_truth": names,
            "generated": names,
        }
        self.info = MetricInfo(
            name="copy_paste",
            protocol="strict",
            backend=backend.name,
            summary="whether the face repeats the reference photo (1) or shows the person (-1)",
            unit="ratio of angles",
            higher_is_better=False,
            bounds=(-1.0, 1.0),
            axis="editability",
            variants=("", "to_truth", "to_reference"),
            comparable_to_published=False,
        )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """The ratio and its cosines."""
        backend = self._backend
        match = match_faces(observation, backend)
        truth_match = match_faces(observation, backend, generated="ground_truth")
        name = backend.embedding
        reference = observation.get("reference", backend.embedder)[name][match.reference]
        truth = observation.get("ground_truth", backend.embedder)[name][truth_match.best]
        generated = observation.get("generated", backend.embedder)[name][match.best]
        between = angle(truth, reference)
        if between < MIN_ANGLE:
            raise MissingValueError("same_photo", f"truth and reference are {between:g} rad apart")
        to_truth, to_reference = angle(generated, truth), angle(generated, reference)
        return {
            "": copy_paste(to_truth, to_reference, between),
            "to_truth": cosine(generated, truth),
            "to_reference": cosine(generated, reference),
        }


def copy_paste_antelopev2() -> Metric:
    """Copy-paste in the embedding of ArcFace R100."""
    return CopyPaste(ANTELOPEV2)


def copy_paste_buffalo_l() -> Metric:
    """Copy-paste in the embedding of ArcFace R50."""
    return CopyPaste(BUFFALO_L)
