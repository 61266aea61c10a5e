import numpy as np
import pytest

from idbench.metrics.pose import (
    euler_degrees,
    geodesic_degrees,
    head_rotation,
    rotation_from_euler,
    wrapped_degrees,
)


@pytest.fixture
def shape():
    return np.random.default_rng(4).normal(size=(68, 3))


ANGLES = [(0, 0, 0), (30, 0, 0), (0, 25, 0), (0, 0, -40), (20, -15, 35), (-60, 50, 120)]


@pytest.mark.parametrize("angles", ANGLES)
def test_pose_of_a_projected_shape_is_recovered(shape, angles):
    rotation = rotation_from_euler(np.array(angles))
    image = 140 * (shape @ rotation.T)[:, :2] + (300, 200)
    np.testing.assert_allclose(head_rotation(image, shape), rotation, atol=1e-9)
    np.testing.assert_allclose(euler_degrees(head_rotation(image, shape)), angles, atol=1e-7)


def test_in_plane_turn_adds_to_roll_alone(shape):
    before = head_rotation(shape[:, :2], shape)
    angle = np.radians(20)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    after = head_rotation(shape[:, :2] @ turn.T, shape)
    change = euler_degrees(after) - euler_degrees(before)
    np.testing.assert_allclose(change, [0, 0, 20], atol=1e-9)
    assert geodesic_degrees(before, after) == pytest.approx(20)


def test_mirrored_points_of_a_symmetric_shape_turn_yaw_and_roll_around():
    half = np.random.default_rng(8).normal(size=(34, 3))
    shape = np.concatenate([half, half * (-1, 1, 1)])
    swapped = np.r_[34:68, 0:34]  # the same landmark on the other side of the face
    image = (shape @ rotation_from_euler(np.array([25, 10, 15])).T)[:, :2]
    mirrored = (image * (-1, 1))[swapped]
    np.testing.assert_allclose(
        euler_degrees(head_rotation(mirrored, shape)), [-25, 10, -15], atol=1e-9
    )


def test_rotation_is_a_rotation_for_noisy_points(shape):
    noisy = shape[:, :2] + np.random.default_rng(1).normal(size=(68, 2)) * 0.5
    rotation = head_rotation(noisy, shape)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)


@pytest.mark.parametrize("angles", ANGLES)
def test_euler_angles_give_their_rotation_back(angles):
    np.testing.assert_allclose(euler_degrees(rotation_from_euler(np.array(angles))), angles)


def test_geodesic_angle_is_that_of_scipy():
    from scipy.spatial.transform import Rotation

    rotations = Rotation.random(20, rng=np.random.default_rng(3))
    for a, b in zip(rotations[:10], rotations[10:], strict=True):
        expected = np.degrees((a.inv() * b).magnitude())
        assert geodesic_degrees(a.as_matrix(), b.as_matrix()) == pytest.approx(expected)
    assert geodesic_degrees(np.eye(3), np.eye(3)) == 0
    assert geodesic_degrees(np.eye(3), np.diag([-1.0, -1.0, 1.0])) == pytest.approx(180)


@pytest.mark.parametrize(("angle", "wrapped"), [(0, 0), (190, -170), (-190, 170), (359, -1)])
def test_differences_wrap_around(angle, wrapped):
    assert wrapped_degrees(angle) == wrapped
