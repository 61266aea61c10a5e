"""Posediv: how far the head turned between reference and generated image."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from idbench.metrics.faces import DLIB, match_faces
from idbench.metrics.pose import geodesic_degrees, rotation_from_euler, wrapped_degrees
from idbench.metrics.protocol import MetricInfo, Missing, Observation

AXES = ("yaw", "pitch", "roll")


class PosedivDlib68:
    """Absolute differences of yaw, pitch and roll of the faces that FaceSim compares, in degrees.

    Sections A.4 `strict` and D.2 of the metric specification. `geodesic` is the angle of the one
    rotation between both poses. Differences wrap around at 180 degrees.

    Missing: `no_reference_face`, `no_face`, `several_people`.
    """

    version = 1
    needs = DLIB.needs()
    info = MetricInfo(
        name="posediv",
        protocol="strict",
        backend="dlib68",
        summary="change of head pose between the matched faces",
        unit="degrees",
        higher_is_better=True,
        bounds=(0.0, 180.0),
        axis="editability",
        variants=(*AXES, "geodesic"),
        papers=("EditIDv2",),
        comparable_to_published=False,
    )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """Differences of the matched faces."""
        reference, generated = matched_poses(observation)
        changes = {
            axis: abs(wrapped_degrees(float(after - before)))
            for axis, before, after in zip(AXES, reference, generated, strict=True)
        }
        angle = geodesic_degrees(rotation_from_euler(reference), rotation_from_euler(generated))
        return {**changes, "geodesic": angle}


class HeadPoseDlib68:
    """Yaw, pitch and roll of the generated face, and their signed change from the reference.

    What Posediv's absolute values hide: the sign. Roll grows clockwise as seen in the image; yaw
    grows as the face turns to the right edge of the image. The absolute angles carry an unknown
    bias of some degrees.

    Missing: `no_reference_face`, `no_face`, `several_people`.
    """

    version = 1
    needs = DLIB.needs()
    info = MetricInfo(
        name="headpose",
        protocol="strict",
        backend="dlib68",
        summary="signed head pose of the generated face, and its change from the reference",
        unit="degrees",
        higher_is_better=None,
        bounds=(-180.0, 180.0),
        axis="editability",
        variants=(*AXES, *(f"{axis}_change" for axis in AXES)),
        comparable_to_published=False,
    )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """Angles of the matched generated face and their changes."""
        reference, generated = matched_poses(observation)
        changes = {
            f"{axis}_change": wrapped_degrees(float(after - before))
            for axis, before, after in zip(AXES, reference, generated, strict=True)
        }
        return {**dict(zip(AXES, map(float, generated), strict=True)), **changes}


def matched_poses(observation: Observation) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Yaw, pitch and roll, in degrees, of the two faces that FaceSim compares.

    Raises:
        MissingValueError: If there is no such pair of faces.
    """
    match = match_faces(observation, DLIB)
    reference = observation.get("reference", "dlib_face")["pose"][match.reference]
    generated = observation.get("generated", "dlib_face")["pose"][match.best]
    return reference, generated
