"""Pose: whether the head is turned as the prompt asks."""

from collections.abc import Mapping
from typing import Literal

from idbench.metrics.editability.asked_faces import faces_asked_for
from idbench.metrics.editability.expr import means
from idbench.metrics.face_backends import ANTELOPEV2
from idbench.metrics.protocol import MetricInfo, Missing, MissingValueError, Observation

Orientation = Literal["front", "side", "up", "down"]

THRESHOLD_DEGREES = 10.0
ORIENTATIONS: Mapping[str, Orientation] = {
    "front": "front",
    "front view": "front",
    "side": "side",
    "side view": "side",
    "up": "up",
    "facing up": "up",
    "down": "down",
    "facing down": "down",
}


def orientation_of(
    asked: Orientation, yaw: float, pitch: float, *, at_threshold: Orientation = "side"
) -> Orientation:
    """The orientation that a face has, among those that the prompt's kind of view allows.

    Prompts for up or down are judged by pitch alone, prompts for front or side by yaw alone.

    Args:
        asked: What the prompt asks for.
        yaw: Degrees; only its size counts.
        pitch: Degrees, positive up.
        at_threshold: What a yaw of exactly 10 degrees is. DynamicID's code has it as side.
    """
    if asked in ("up", "down"):
        if pitch > THRESHOLD_DEGREES:
            return "up"
        return "down" if pitch < -THRESHOLD_DEGREES else "front"
    if abs(yaw) == THRESHOLD_DEGREES:
        return at_threshold
    return "side" if abs(yaw) > THRESHOLD_DEGREES else "front"


class Pose:
    """Share of the people who face where the prompt asks, in [0, 1].

    Pose of DynamicID, by the 68 three-dimensional landmarks of insightface; positive pitch is up.
    A method that always paints frontal faces scores about 0.25. Variants: "" the mean over the
    people whose face was found; `penalised` a person without a face counts 0.

    Missing: `not_asked`, `unknown_orientation`, `no_reference_face`; `no_face` for "" only.
    """

    version = 1
    needs = ANTELOPEV2.needs(generated=("antelopev2.pose",))
    info = MetricInfo(
        name="pose",
        protocol="strict",
        backend="insightface",
        summary="share of people who face where the prompt asks",
        unit="share",
        higher_is_better=True,
        bounds=(0.0, 1.0),
        axis="editability",
        variants=("", "penalised"),
        papers=("DynamicID",),
        chance=1 / 4,
    )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """Both shares."""
        values: list[float | None] = []
        for subject, face in faces_asked_for(observation, ANTELOPEV2, "orientation"):
            asked = ORIENTATIONS.get(str(subject.orientation))
            if asked is None:
                raise MissingValueError(
                    "unknown_orientation",
                    f"{subject.orientation!r} is none of {', '.join(ORIENTATIONS)}",
                )
            if face is None:
                values.append(None)
                continue
            yaw, pitch, _ = observation.get("generated", "antelopev2.pose")["pose"][face]
            values.append(float(orientation_of(asked, float(yaw), float(pitch)) == asked))
        return means(values)
