"""Head pose from 68 landmarks: an affine fit to a mean face, made a rotation.

Section D.2 of the metric specification. Absolute yaw and pitch carry an unknown constant bias, so
only differences between two faces mean something.
"""

import numpy as np
from numpy.typing import NDArray


def head_rotation(
    points: NDArray[np.floating], mean_shape: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Rotation of the head, `3 3`, that carries the mean face to the points under weak perspective.

    The affine map from the centred mean face (`n 3`) to the centred points (`n 2`, pixels) is
    fitted by least squares; its nearest pair of orthonormal rows are the first two rows of the
    rotation and their cross product is the third.
    """
    shape = np.asarray(mean_shape, np.float64)
    image = np.asarray(points, np.float64)
    affine = np.linalg.lstsq(shape - shape.mean(0), image - image.mean(0), rcond=None)[0].T
    u, _, vt = np.linalg.svd(affine, full_matrices=False)
    rows = u @ vt
    return np.vstack([rows, np.cross(rows[0], rows[1])])


def euler_degrees(rotation: NDArray[np.floating]) -> NDArray[np.float64]:
    """Yaw, pitch and roll in degrees of a rotation matrix `Rz(roll) Ry(yaw) Rx(pitch)`.

    Yaw is in [-90, 90], pitch and roll in [-180, 180]. Roll grows clockwise as seen in the image.
    """
    r = np.asarray(rotation, np.float64)
    yaw = np.arctan2(-r[2, 0], np.hypot(r[0, 0], r[1, 0]))
    pitch = np.arctan2(r[2, 1], r[2, 2])
    roll = np.arctan2(r[1, 0], r[0, 0])
    angles: NDArray[np.float64] = np.degrees(np.array([yaw, pitch, roll]))
    return angles


def rotation_from_euler(yaw_pitch_roll: NDArray[np.floating]) -> NDArray[np.float64]:
    """The rotation matrix whose `euler_degrees` are the given ones."""
    yaw, pitch, roll = np.radians(np.asarray(yaw_pitch_roll, np.float64))
    cy, sy = np.cos(yaw), np.sin(yaw)
    cp, sp = np.cos(pitch), np.sin(pitch)
    cr, sr = np.cos(roll), np.sin(roll)
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    rotation: NDArray[np.float64] = about_z @ about_y @ about_x
    return rotation


def geodesic_degrees(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Angle of the rotation between two rotation matrices, in [0, 180] degrees."""
    relative = np.asarray(a, np.float64).T @ np.asarray(b, np.float64)
    axis = np.array(
        [
            relative[2, 1] - relative[1, 2],
            relative[0, 2] - relative[2, 0],
            relative[1, 0] - relative[0, 1],
        ]
    )
    # atan2 instead of acos of the trace, which loses half the digits near zero.
    return float(np.degrees(np.arctan2(np.linalg.norm(axis), np.trace(relative) - 1)))


def wrapped_degrees(difference: float) -> float:
    """A difference of angles brought into [-180, 180)."""
    return (difference + 180) % 360 - 180
