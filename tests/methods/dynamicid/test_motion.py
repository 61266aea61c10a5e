import numpy as np
import pytest

from idbench.methods.dynamicid.motion import pose_phrase, source_face_prompt, target_face_prompt


@pytest.mark.golden
def test_source_prompts_equal_the_official_ones(cases):
    found = [case for case in cases("imr") if "first_second_angle" in case.meta]
    assert found
    for case in found:
        pairs = zip(case.meta["first_second_angle"], case.meta["prompts"], strict=True)
        for (pitch, yaw), prompt in pairs:
            assert source_face_prompt("neutral", pitch, yaw) == prompt


@pytest.mark.parametrize(
    ("pitch", "yaw", "phrase"),
    [
        (15, 0, "facing up, in front view"),
        (10, 10, "in side view"),
        (-10.01, -10, "facing down, in side view"),
        (10.01, 9.99, "facing up, in front view"),
    ],
)
def test_thresholds_of_the_pose(pitch, yaw, phrase):
    assert pose_phrase(pitch, yaw) == phrase


def test_a_face_that_is_turned_up_has_positive_pitch():
    """Of the mean shape that insightface fits: the sign that "facing up" relies on."""
    from insightface.data import get_object
    from insightface.utils import transform

    mean = np.asarray(get_object("meanshape_68.pkl"), dtype=np.float64)
    nose, eyes, chin = mean[30], mean[36:48].mean(axis=0), mean[8]
    assert eyes[1] < chin[1]  # y grows downwards
    assert nose[2] > mean[:17, 2].mean()  # z grows towards the viewer

    angle = np.deg2rad(15)
    # About x, so that what is in front (the nose) moves up the picture.
    up = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    turned = mean @ up.T
    assert (turned[30] - turned.mean(axis=0))[1] < (nose - mean.mean(axis=0))[1]
    fitted = transform.estimate_affine_matrix_3d23d(mean, turned)
    _, rotation, _ = transform.P2sRt(fitted)
    pitch, yaw, _ = transform.matrix2angle(rotation)
    assert pitch == pytest.approx(15, abs=1e-3)
    assert pose_phrase(pitch, yaw) == "facing up, in front view"


@pytest.mark.parametrize(
    ("expression", "orientation", "prompt"),
    [
        ("happy", "side", "in a happy expression, in side view"),
        ("angry", "up", "in a angry expression, facing up"),
        ("sad", "down", "in a sad expression, facing down"),
        ("neutral", "front", "in a neutral expression, in front view"),
        ("smile", "three_quarter", "in a smile expression, in three quarter view"),
        ("happy", None, "in a happy expression"),
        (None, "side", "in side view"),
        (None, None, None),
    ],
)
def test_target_prompts_say_what_is_asked_and_nothing_else(expression, orientation, prompt):
    assert target_face_prompt(expression, orientation) == prompt
