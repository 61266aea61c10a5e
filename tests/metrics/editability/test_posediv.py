import numpy as np
import pytest

from idbench.metrics.protocol import MissingValueError, Observation
from idbench.metrics.registry import resolve


def features(*poses):
    count = len(poses)
    return {
        "mtcnn": {
            "boxes": np.tile([0.0, 0, 90, 90], (count, 1)),
            "scores": np.ones(count),
        },
        "dlib_face": {
            "descriptors": np.arange(count)[:, None] * np.full((1, 128), 0.02),
            "pose": np.reshape(np.array(poses, float), (-1, 3)),
        },
    }


def score(name, reference, generated):
    observation = Observation(
        prompt="", features={"reference": [reference], "generated": [generated]}
    )
    return resolve([name])[0](observation)


def test_differences_are_absolute_and_per_axis():
    found = score("posediv[dlib68]", features((10, -5, 2)), features((-12, 4, 32)))
    assert (found["yaw"], found["pitch"], found["roll"]) == (22, 9, 30)


def test_geodesic_of_a_single_axis_is_the_difference():
    found = score("posediv[dlib68]", features((0, 0, 10)), features((0, 0, 45)))
    assert found["geodesic"] == pytest.approx(35)


def test_differences_wrap_around():
    found = score("posediv[dlib68]", features((0, 0, 170)), features((0, 0, -175)))
    assert found["roll"] == pytest.approx(15)
    assert found["geodesic"] == pytest.approx(15)


def test_equal_poses_have_no_difference():
    found = score("posediv[dlib68]", features((10, -5, 2)), features((10, -5, 2)))
    assert found == pytest.approx({"yaw": 0, "pitch": 0, "roll": 0, "geodesic": 0}, abs=1e-9)


def test_signed_pose_keeps_the_sign():
    found = score("headpose[dlib68]", features((10, -5, 2)), features((-12, 4, 32)))
    assert found == {
        "yaw": -12,
        "pitch": 4,
        "roll": 32,
        "yaw_change": -22,
        "pitch_change": 9,
        "roll_change": 30,
    }


def test_the_most_similar_face_is_compared():
    # The first face has the descriptor of the reference.
    found = score("posediv[dlib68]", features((0, 0, 0)), features((1, 2, 3), (50, 50, 50)))
    assert (found["yaw"], found["pitch"], found["roll"]) == (1, 2, 3)


@pytest.mark.parametrize("name", ["posediv[dlib68]", "headpose[dlib68]", "expr_change"])
def test_missing_faces_are_reported(name):
    with pytest.raises(MissingValueError, match="no_face"):
        score(name, features((0, 0, 0)), features())
    with pytest.raises(MissingValueError, match="no_reference_face"):
        score(name, features(), features((0, 0, 0)))
