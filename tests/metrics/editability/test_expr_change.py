import numpy as np
import pytest

from idbench.metrics.editability.expr_change import expression_geometry
from idbench.metrics.protocol import Observation
from idbench.metrics.registry import resolve


def face(eye=4.0, mouth=3.0, width=50.0):
    """68 points with eyes 20 wide and inner lips 30 wide; heights and mouth width as given.

    Outer eye corners are 100 apart. Numbering as in 300-W: 36-41 and 42-47 eyes from the left
    corner, upper lid first; 48 and 54 outer mouth corners; 60-67 inner lips.
    """
    points = np.zeros((68, 2))
    for first, left in ((36, 0.0), (42, 80.0)):
        points[first : first + 6] = [
            (left, 0),
            (left + 6, -eye / 2),
            (left + 14, -eye / 2),
            (left + 20, 0),
            (left + 14, eye / 2),
            (left + 6, eye / 2),
        ]
    points[[48, 54]] = (50 - width / 2, 60), (50 + width / 2, 60)
    points[60:68] = [
        (35, 60),
        (42, 60 - mouth / 2),
        (50, 60 - mouth / 2),
        (58, 60 - mouth / 2),
        (65, 60),
        (58, 60 + mouth / 2),
        (50, 60 + mouth / 2),
        (42, 60 + mouth / 2),
    ]
    return points


def test_geometry_by_hand():
    # 4/20, 3/30 and 50/100
    np.testing.assert_allclose(expression_geometry(face()), [0.2, 0.1, 0.5])


def test_geometry_does_not_change_with_place_size_or_roll():
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    moved = 2.5 * face() @ turn.T + (31, -7)
    np.testing.assert_allclose(expression_geometry(moved), expression_geometry(face()))


def test_points_without_extent_have_no_opening():
    np.testing.assert_array_equal(expression_geometry(np.zeros((68, 2))), [0, 0, 0])


def test_change_is_the_mean_of_the_three_changes():
    def features(points):
        return {
            "mtcnn": {"boxes": np.array([[0.0, 0, 99, 99]]), "scores": np.ones(1)},
            "dlib_face": {"descriptors": np.zeros((1, 128)), "points68": points[None]},
        }

    # Eyes 0.2 to 0.1, lips 0.1 to 0.4, mouth 0.5 to 0.7: (0.1 + 0.3 + 0.2) / 3
    observation = Observation(
        prompt="",
        features={
            "reference": [features(face())],
            "generated": [features(face(eye=2, mouth=12, width=70))],
        },
    )
    assert resolve(["expr_change"])[0](observation)[""] == pytest.approx(0.2)
