"""Face prompts: expression and orientation in the words that the IMR was trained with."""

POSE_THRESHOLD = 10.0
"""Degrees of pitch and yaw beyond which a face is up, down or sideways (section 7.4)."""

ORIENTATIONS = {
    "front": "in front view",
    "side": "in side view",
    "up": "facing up",
    "down": "facing down",
}


def pose_phrase(pitch: float, yaw: float) -> str:
    """The orientation of a face in degrees: pitch above 0 is up, yaw above 0 to the image's right.

    The rules of the official code: "facing up" above 10 degrees, "facing down" below -10, and
    "in front view" where |yaw| is below 10, else "in side view".
    """
    view = "in front view" if abs(yaw) < POSE_THRESHOLD else "in side view"
    if pitch > POSE_THRESHOLD:
        return f"facing up, {view}"
    if pitch < -POSE_THRESHOLD:
        return f"facing down, {view}"
    return view


def source_face_prompt(expression: str, pitch: float, yaw: float) -> str:
    """The prompt that describes a reference, as the official code builds it."""
    return f"in a {expression} expression, {pose_phrase(pitch, yaw)}"


def target_face_prompt(expression: str | None, orientation: str | None) -> str | None:
    """The prompt of what is asked of a face, or None where nothing is.

    `expression` is a word such as "happy"; `orientation` one of "front", "side", "up", "down" or
    another word, which becomes "in ... view". What is not asked is left out.
    """
    parts = []
    if expression:
        parts.append(f"in a {expression.replace('_', ' ')} expression")
    if orientation:
        view = orientation.replace("_", " ")
        parts.append(ORIENTATIONS.get(orientation, f"in {view} view"))
    return ", ".join(parts) or None
