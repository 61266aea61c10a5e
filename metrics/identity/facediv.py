"""FaceDiv: IBench's two products of identity gain and landmark change."""

import math
from collections.abc import Mapping

from idbench.metrics.cosine import cosine
from idbench.metrics.face_backends import ANTELOPEV2
from idbench.metrics.identity.facesim import first_embedding
from idbench.metrics.identity.landmarkdiff import landmark_difference
from idbench.metrics.protocol import (
    MetricInfo,
    Missing,
    MissingValueError,
    Observation,
    Role,
)

_EPSILON = 1e-6


def facediv1(with_identity: float, without: float, landmarkdiff: float) -> float:
    """s1 / (s2 + 1e-6) * exp(-(d - 0.2)^2 / (2 * 0.1^2)): rewards a landmark change of 0.2."""
    gain = with_identity / (without + _EPSILON)
    return gain * math.exp(-((landmarkdiff - 0.2) ** 2) / (2 * 0.1**2))


def facediv2(with_identity: float, without: float, landmarkdiff: float) -> float:
    """s1 / (s2 + 1e-6) * (1 + d / 0.1): rewards every landmark change."""
    return with_identity / (without + _EPSILON) * (1 + landmarkdiff / 0.1)


class FaceDivIBench:
    """FaceDiv1 and FaceDiv2 of IBench, which its shipped configuration leaves out.

    s1 is FaceSim, s2 AntiFaceSim, d Landmarkdiff. s2 is near 0 for people who are not alike and can
    be negative, so the quotient is unbounded and unstable: not for reports.

    Missing: `no_base`, `no_reference_face`, `no_face`, `no_base_face`.
    """

    version = 1
    needs: Mapping[Role, tuple[str, ...]] = {
        "reference": (ANTELOPEV2.detector, "mtcnn_native"),
        "generated": (ANTELOPEV2.detector, "mtcnn_native"),
        "base": (ANTELOPEV2.detector,),
    }
    info = MetricInfo(
        name="facediv",
        protocol="ibench",
        backend=ANTELOPEV2.name,
        summary="FaceSim over AntiFaceSim, weighted by landmark change (unstable)",
        unit="ratio",
        higher_is_better=True,
        bounds=(-math.inf, math.inf),
        axis="editability",
        variants=("1", "2"),
    )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """Both products."""
        reference = first_embedding(observation, "reference", ANTELOPEV2)
        with_identity = cosine(reference, first_embedding(observation, "generated", ANTELOPEV2))
        without = cosine(reference, first_embedding(observation, "base", ANTELOPEV2))
        points = [
            observation.get("reference", "mtcnn_native")["points_rounded"],
            observation.get("generated", "mtcnn_native")["points_rounded"],
        ]
        for found, reason in zip(points, ("no_reference_face", "no_face"), strict=True):
            if not len(found):
                raise MissingValueError(reason, "mtcnn found none")
        difference = landmark_difference(points[0][0], points[1][0])
        values = (with_identity, without, difference)
        return {"1": facediv1(*values), "2": facediv2(*values)}
