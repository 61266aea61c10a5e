"""Posediv by Hopenet, as IBench measures it and on the faces that FaceSim compares."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from idbench.metrics.binned_angles import (
    HIGHEST_DEGREES,
    LOWEST_DEGREES,
    expected_angles,
    expected_angles_ibench,
)
from idbench.metrics.editability.posediv import AXES
from idbench.metrics.face_backends import ANTELOPEV2
from idbench.metrics.faces import match_faces
from idbench.metrics.pose import geodesic_degrees, rotation_from_euler
from idbench.metrics.protocol import MetricInfo, Missing, Observation, Role

_SPAN = HIGHEST_DEGREES - LOWEST_DEGREES
_FACES = "hopenet.antelopev2"


class PosedivIBench:
    """Absolute differences of Hopenet's yaw, pitch and roll, in degrees.

    Posediv of IBench: 30 pixels around the first detection of MTCNN's R-Net stage, or the whole
    image where there is none, so never missing for want of a face. Angles do not wrap around.
    """

    version = 1
    needs: Mapping[Role, tuple[str, ...]] = {
        "reference": ("hopenet.ibench",),
        "generated": ("hopenet.ibench",),
    }
    info = MetricInfo(
        name="posediv",
        protocol="ibench",
        backend="hopenet",
        summary="change of head pose between the first detections, whole image without one",
        unit="degrees",
        higher_is_better=True,
        bounds=(0.0, _SPAN),
        axis="editability",
        variants=AXES,
        papers=("EditIDv2",),
    )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """Differences of the two crops."""
        angles = [
            expected_angles_ibench(observation.get(role, "hopenet.ibench")["output"][0])
            for role in ("reference", "generated")
        ]
        changes = np.abs(angles[0] - angles[1])
        return dict(zip(AXES, map(float, changes), strict=True))


def matched_angles(observation: Observation) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Yaw, pitch and roll, in degrees, of the reference and the generated face of FaceSim.

    Raises:
        MissingValueError: If there is no such pair of faces.
    """
    match = match_faces(observation, ANTELOPEV2)
    reference = observation.get("reference", _FACES)["output"][match.reference]
    generated = observation.get("generated", _FACES)["output"][match.best]
    return expected_angles(reference), expected_angles(generated)


class PosedivStrict:
    """Absolute differences of Hopenet's angles of the matched faces, in degrees.

    The crop has a margin of a quarter of the face on each side. `geodesic` is the angle of the one
    rotation between both poses.

    Missing: `no_reference_face`, `no_face`, `several_people`.
    """

    version = 1
    needs = ANTELOPEV2.needs(_FACES)
    info = MetricInfo(
        name="posediv",
        protocol="strict",
        backend="hopenet",
        summary="change of head pose between the matched faces",
        unit="degrees",
        higher_is_better=True,
        bounds=(0.0, _SPAN),
        axis="editability",
        variants=(*AXES, "geodesic"),
        papers=("EditIDv2",),
        comparable_to_published=False,
    )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """Differences of the matched faces."""
        reference, generated = matched_angles(observation)
        changes = np.abs(reference - generated)
        rotations = rotation_from_euler(reference), rotation_from_euler(generated)
        return {
            **dict(zip(AXES, map(float, changes), strict=True)),
            "geodesic": geodesic_degrees(*rotations),
        }


class HeadPoseHopenet:
    """Hopenet's angles of the generated face and their signed change from the reference.

    The mean of a signed change shows a bias that Posediv hides.

    Missing: `no_reference_face`, `no_face`, `several_people`.
    """

    version = 1
    needs = ANTELOPEV2.needs(_FACES)
    info = MetricInfo(
        name="headpose",
        protocol="strict",
        backend="hopenet",
        summary="signed head pose of the generated face, and its change from the reference",
        unit="degrees",
        higher_is_better=None,
        bounds=(-_SPAN, _SPAN),
        axis="editability",
        variants=(*AXES, *(f"{axis}_change" for axis in AXES)),
        comparable_to_published=False,
    )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """Angles of the matched generated face and their changes."""
        reference, generated = matched_angles(observation)
        changes = [f"{axis}_change" for axis in AXES]
        return {
            **dict(zip(AXES, map(float, generated), strict=True)),
            **dict(zip(changes, map(float, generated - reference), strict=True)),
        }
