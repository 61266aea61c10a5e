import numpy as np
import pytest
from PIL import Image

from idbench.methods.dynamicid.faces import Face, FaceAnalyser, NoFaceError, choose_face, overlap


def face(box, score):
    return Face(
        box=box,
        score=score,
        id_embedding=np.zeros(512, np.float32),
        landmarks=np.zeros((106, 2), np.float32),
        pitch=0.0,
        yaw=0.0,
    )


SMALL_SURE = face((0, 0, 10, 10), 0.9)
LARGE = face((20, 20, 60, 60), 0.6)
LARGE_SURER = face((100, 20, 140, 60), 0.7)


def test_the_largest_face_stands_for_a_picture():
    assert choose_face([SMALL_SURE, LARGE]) is LARGE


def test_of_equally_large_faces_the_surest_does():
    assert choose_face([SMALL_SURE, LARGE, LARGE_SURER]) is LARGE_SURER


def test_the_official_rule_takes_the_first():
    assert choose_face([SMALL_SURE, LARGE], "first") is SMALL_SURE


def test_a_given_box_decides_if_a_face_is_there():
    assert choose_face([SMALL_SURE, LARGE], near=(1, 1, 9, 9)) is SMALL_SURE
    assert choose_face([SMALL_SURE, LARGE], near=(200, 200, 220, 220)) is LARGE


def test_no_face_is_an_error_of_its_own():
    with pytest.raises(NoFaceError):
        choose_face([])


@pytest.mark.parametrize(
    ("other", "expected"),
    [((0, 0, 2, 2), 1.0), ((1, 0, 3, 2), 1 / 3), ((2, 0, 4, 2), 0.0), ((5, 5, 6, 6), 0.0)],
)
def test_overlap_is_intersection_over_union(other, expected):
    assert overlap((0, 0, 2, 2), other) == pytest.approx(expected)


@pytest.fixture(scope="module")
def analyse(tiny_files):
    return FaceAnalyser(tiny_files.face_models)


def test_the_networks_run_through_insightface(analyse, astronaut):
    (found,) = analyse(np.asarray(astronaut))
    # The tiny detector puts a box of 7 strides of 32 pixels in the middle.
    np.testing.assert_allclose(found.box, (144, 144, 368, 368), atol=1e-3)
    assert found.score == pytest.approx(0.95)
    assert np.linalg.norm(found.id_embedding) == pytest.approx(1.0, abs=1e-6)
    assert found.landmarks.shape == (106, 2)
    assert abs(found.pitch) < 15
    assert abs(found.yaw) < 15


def test_a_black_picture_has_no_face(analyse):
    assert analyse(np.zeros((300, 400, 3), np.uint8)) == []


def swapped(picture):
    return Image.fromarray(np.ascontiguousarray(np.asarray(picture)[:, :, ::-1]))


def test_the_legacy_embedding_is_that_of_swapped_channels(tiny_files, analyse, astronaut):
    legacy = FaceAnalyser(tiny_files.face_models, legacy_rgb=True)
    (official,) = legacy(np.asarray(astronaut))
    (as_bgr,) = analyse(np.asarray(swapped(astronaut)))
    (right,) = analyse(np.asarray(astronaut))
    np.testing.assert_array_equal(official.id_embedding, as_bgr.id_embedding)
    assert (official.pitch, official.yaw) == (as_bgr.pitch, as_bgr.yaw)
    np.testing.assert_array_equal(official.landmarks, right.landmarks)
    assert not np.array_equal(official.id_embedding, right.id_embedding)


def test_absent_networks_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"w600k_r50\.onnx"):
        FaceAnalyser(tmp_path)


def test_networks_of_another_kind_are_named(tmp_path, tiny_files):
    for name in ("det_10g", "w600k_r50", "2d106det"):
        content = (tiny_files.face_models / f"{name}.onnx").read_bytes()
        (tmp_path / f"{name}.onnx").write_bytes(content)
    wrong = (tiny_files.face_models / "2d106det.onnx").read_bytes()
    (tmp_path / "1k3d68.onnx").write_bytes(wrong)
    with pytest.raises(ValueError, match="landmark_3d_68"):
        FaceAnalyser(tmp_path)
