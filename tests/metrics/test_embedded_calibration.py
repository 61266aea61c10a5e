"""Part E of the metric specification: known changes of real photographs move the metrics as stated.

The photographs are the astronaut, on which the tolerances were measured, and one face of the group
photograph t1. Its other faces, some of them half in profile, exceed one tolerance or another.
"""

import io

import numpy as np
import pytest
from PIL import Image

from idbench.metrics.protocol import MissingValueError

cv2 = pytest.importorskip("cv2")

T1_FACE = np.s_[218:451, 1064:]  # the man on the right


def rolled(image, degrees):
    """Turned about the centre on the same canvas; positive is anticlockwise, as in OpenCV."""
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    return cv2.warpAffine(image, turn, (width, height))


def padded(image):
    height, width = image.shape[:2]
    margins = ((height // 5,) * 2, (width // 5,) * 2, (0, 0))
    return np.pad(image, margins)


def blurred(image, sigma):
    return cv2.GaussianBlur(image, (0, 0), sigma)


def brightened(image, factor):
    return np.clip(image * factor, 0, 255).astype(np.uint8)


def compressed(image, quality):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "jpeg", quality=quality)
    return np.array(Image.open(stream))


def halved(image):
    return cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def mirrored(image):
    return np.ascontiguousarray(image[:, ::-1])


@pytest.fixture(scope="module")
def faces(photographs):
    return {
        "astronaut": photographs["astronaut"],
        "t1": np.ascontiguousarray(photographs["t1"][T1_FACE]),
    }


@pytest.fixture(params=["astronaut", "t1"])
def face(request, faces):
    return faces[request.param]


@pytest.fixture
def score(embedded):
    return embedded.score


def test_row_1_and_2_a_copy_is_the_same_person_unmoved(face, score):
    assert score("facesim[dlib]", face, face.copy())[""] == 1
    assert score("landmarkdiff@ibench", face, face.copy())[""] == 0
    strict = score("landmarkdiff@strict", face, face.copy())
    assert strict == pytest.approx({"": 0, "procrustes": 0}, abs=1e-12)
    pose = score("posediv[dlib68]", face, face.copy())
    assert pose == pytest.approx(dict.fromkeys(pose, 0), abs=1e-5)
    assert score("expr_change", face, face.copy())[""] == 0


def test_row_3_roll_is_measured_in_degrees(face, score):
    moved = [score("posediv[dlib68]", face, rolled(face, k))["roll"] for k in (10, 20, 30)]
    assert moved == pytest.approx([10, 20, 30], abs=4)
    assert moved == sorted(moved)
    # An anticlockwise turn lowers the signed roll, which grows clockwise.
    assert score("headpose[dlib68]", face, rolled(face, 20))["roll_change"] < -16


def test_row_4_roll_moves_landmarks_but_not_their_shape(face, score):
    turned = rolled(face, 15)
    assert score("landmarkdiff@ibench", face, turned)[""] == pytest.approx(0.104, abs=0.03)
    strict = score("landmarkdiff@strict", face, turned)
    assert strict[""] == pytest.approx(0.104, abs=0.03)
    assert strict["procrustes"] < 0.04


@pytest.mark.parametrize("degrees", [10, 15, 20])
def test_row_5_roll_keeps_the_identity(face, score, degrees):
    assert score("facesim[dlib]", face, rolled(face, degrees))[""] >= 0.85


def test_row_6_half_size_keeps_the_landmarks(face, score):
    assert score("landmarkdiff@ibench", face, halved(face))[""] < 0.03
    assert score("landmarkdiff@strict", face, halved(face))[""] < 0.03


def test_row_7_padding_changes_little(face, score):
    assert score("landmarkdiff@ibench", face, padded(face))[""] < 0.03
    assert score("facesim[dlib]", face, padded(face))[""] >= 0.85


def test_row_8_a_mirror_turns_yaw_and_roll_around(face, score):
    assert score("facesim[dlib]", face, mirrored(face))[""] >= 0.7
    before = score("headpose[dlib68]", face, face)
    after = score("headpose[dlib68]", face, mirrored(face))
    assert after["yaw"] == pytest.approx(-before["yaw"], abs=6)
    assert after["roll"] == pytest.approx(-before["roll"], abs=6)


def test_row_9_blur_lowers_similarity_step_by_step(face, score):
    values = [1.0, *(score("facesim[dlib]", face, blurred(face, sigma))[""] for sigma in (1, 2, 4))]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.7


@pytest.mark.parametrize("factor", [0.5, 1.3])
def test_row_10_brightness_changes_little(face, score, factor):
    assert score("facesim[dlib]", face, brightened(face, factor))[""] >= 0.8
    assert score("landmarkdiff@ibench", face, brightened(face, factor))[""] < 0.03


def test_row_11_compression_lowers_similarity_step_by_step(face, score):
    values = [1.0, *(score("facesim[dlib]", face, compressed(face, q))[""] for q in (90, 50, 20))]
    assert values == sorted(values, reverse=True)


def test_row_12_another_person_is_less_similar_than_any_own_picture(faces, score):
    own = [
        score("facesim[dlib]", image, change)[""]
        for image in faces.values()
        for change in (rolled(image, 10), rolled(image, 20), padded(image), mirrored(image))
    ]
    other = [
        score("facesim[dlib]", faces["astronaut"], faces["t1"])[""],
        score("facesim[dlib]", faces["t1"], faces["astronaut"])[""],
    ]
    assert max(other) <= 0.45
    assert max(other) < min(own) - 0.2


def test_row_13_a_cropped_face_is_missing_not_zero(faces, score):
    body = np.ascontiguousarray(faces["astronaut"][260:])
    for metric in (
        "facesim[dlib]",
        "landmarkdiff@ibench",
        "landmarkdiff@strict",
        "posediv[dlib68]",
    ):
        with pytest.raises(MissingValueError) as caught:
            score(metric, faces["astronaut"], body)
        assert caught.value.missing.reason == "no_face"
        with pytest.raises(MissingValueError) as caught:
            score(metric, body, faces["astronaut"])
        assert caught.value.missing.reason == "no_reference_face"


def test_row_14_a_larger_stranger_moves_the_largest_face_only(faces, score):
    own, stranger = faces["astronaut"], faces["t1"]
    stranger = cv2.resize(stranger, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    canvas = np.zeros((512, 512 + stranger.shape[1], 3), np.uint8)
    canvas[:, :512] = own
    canvas[: stranger.shape[0], 512:] = stranger
    found = score("facesim[dlib]", own, canvas)
    assert found[""] > 0.9
    assert found["largest"] < 0.5
    assert score("n_faces", own, canvas)[""] == 2


def test_row_15_a_grey_picture_has_no_face(embedded):
    found = embedded.features(np.full((512, 512, 3), 128, np.uint8))
    assert len(found["mtcnn"]["boxes"]) == 0
    assert len(found["mtcnn"]["proposals"]) == 0


def test_expression_change_sees_a_warped_mouth(faces, score):
    """Opening the lower face by a tenth moves eye and mouth shape more than a turn does."""
    image = faces["astronaut"]
    rows = np.arange(512, dtype=np.float32)
    # Rows 136 to 150 (the mouth) are stretched to one and a half times their height.
    source = np.interp(rows, [0, 136, 157, 512], [0, 136, 150, 512]).astype(np.float32)
    columns, rows = np.meshgrid(np.arange(512, dtype=np.float32), source)
    warped = cv2.remap(image, columns, rows, cv2.INTER_LINEAR)
    still = score("expr_change", image, rolled(image, 10))[""]
    assert score("expr_change", image, warped)[""] > 2 * still
