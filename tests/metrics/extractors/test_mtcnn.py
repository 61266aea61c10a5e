import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from idbench.metrics.protocol import Item
from idbench.metrics.registry import missing_requirements

torch = pytest.importorskip("torch")
cv2 = pytest.importorskip("cv2")

from idbench.metrics.extractors import mtcnn, packaged  # noqa: E402
from idbench.metrics.extractors.mtcnn import MTCNN, MTCNNNative  # noqa: E402

pytestmark = pytest.mark.skipif(
    bool(missing_requirements("mtcnn")), reason="; ".join(missing_requirements("mtcnn"))
)

POINT_NAMES = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")


@pytest.fixture(scope="module")
def native():
    return MTCNN(max_side=None)


def pytest_generate_tests(metafunc):
    if "golden_label" in metafunc.fixturenames:
        labels = golden_labels(metafunc.config)
        metafunc.parametrize("golden_label", labels or [None])


def golden_labels(config):
    chosen = os.environ.get("IDBENCH_GOLDENS")
    tests = Path(__file__).parents[2]
    for folder in [Path(chosen)] if chosen else [tests / "goldens"]:
        if (folder / "metrics_mtcnn.json").is_file():
            return list(json.loads((folder / "metrics_mtcnn.json").read_text())["images"])
    return []


@pytest.mark.golden
def test_detections_equal_those_of_the_package(golden_file, golden_label, native, labelled_image):
    records = json.loads(golden_file("metrics_mtcnn.json").read_text("utf-8"))["images"]
    record = records[golden_label]
    image = labelled_image(golden_label)
    if record.get("max_side") and max(image.shape[:2]) > record["max_side"]:
        factor = record["max_side"] / max(image.shape[:2])
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    if hashlib.sha256(image.tobytes()).hexdigest() != record["rgb_sha256"]:
        pytest.skip("this machine decodes or warps the picture to other pixels")

    found = native([Item(image=image)])[0]

    points = found["points"]
    rows = np.concatenate(
        [found["boxes"], found["scores"][:, None], points[..., 0], points[..., 1]], axis=1
    )
    assert_rows(rows, record["full_float_xyxy"])
    proposals = np.concatenate([found["proposals"], found["proposal_scores"][:, None]], axis=1)
    assert_rows(proposals, record["detection_only_float_xyxy"])
    for whole, place, integers in (
        (rows[:, :4], found["boxes_rounded"], [face["box"] for face in record["full"]]),
        (
            proposals[:, :4],
            found["proposals_rounded"],
            [face["box"] for face in record["detection_only"]],
        ),
    ):
        sides = np.concatenate([whole[:, :2], whole[:, 2:] - whole[:, :2]], axis=1)
        assert_rounded(sides, place, np.reshape(integers, (-1, 4)))
    named = [[face["keypoints"][name] for name in POINT_NAMES] for face in record["full"]]
    assert_rounded(points, found["points_rounded"], np.reshape(named, (-1, 5, 2)))


def assert_rows(rows, expected):
    """Same faces in the same order: 2e-3 pixels, 1e-4 in the score (column 4)."""
    expected = np.reshape(expected, (-1, rows.shape[1]))
    assert rows.shape == expected.shape
    pixels = np.arange(rows.shape[1]) != 4
    np.testing.assert_allclose(rows[:, pixels], expected[:, pixels], atol=2e-3, rtol=0)
    np.testing.assert_allclose(rows[:, 4], expected[:, 4], atol=1e-4, rtol=0)


def assert_rounded(values, rounded, expected):
    """Integers equal the package's, except where the tolerance reaches over a half."""
    assert rounded.shape == expected.shape
    on_the_edge = np.abs(np.abs(values - np.floor(values)) - 0.5) < 4e-3
    assert ((rounded == expected) | on_the_edge).all()


def same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].dtype == second[name].dtype
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_batches_of_1_and_16_give_the_same_bits(photographs, native):
    face = photographs["astronaut"]
    sizes = [96, 150, 130, 140, 97, 180, 64, 133, 120, 150, 20, 5, 101, 77, 200, 110]
    items = [
        Item(image=np.ascontiguousarray(face[20 : 20 + size, 140 : 140 + size])) for size in sizes
    ]
    together = native(items)
    for item, found in zip(items, together, strict=True):
        same(native([item])[0], found)
    for found, backwards in zip(together, native(items[::-1])[::-1], strict=True):
        same(found, backwards)
    assert sum(len(found["boxes"]) for found in together) > 3


def test_the_number_of_threads_does_not_change_a_bit(photographs, native):
    items = [Item(image=np.ascontiguousarray(photographs["astronaut"][:256, 100:356]))]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = native(items)[0]
        torch.set_num_threads(3)
        same(one, native(items)[0])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("size", [(1, 1), (5, 400), (12, 12), (19, 19), (64, 48), (300, 200)])
def test_grey_pictures_of_any_size_have_no_face(native, size):
    found = native([Item(image=np.full((*size, 3), 128, np.uint8))])[0]
    assert found["boxes"].shape == (0, 4)
    assert found["points"].shape == (0, 5, 2)
    assert found["proposals"].shape == (0, 4)
    assert found["points_rounded"].shape == (0, 5, 2)
    assert found["image_size"].tolist() == list(size)


def test_a_large_picture_is_searched_smaller_and_reported_in_its_own_pixels(photographs, native):
    face = photographs["astronaut"]
    capped = MTCNN(max_side=256)([Item(image=face)])[0]
    assert capped["image_size"].tolist() == [512, 512]
    assert capped["searched_size"].tolist() == [256, 256]
    # The same as searching the halved picture: 2 x 2 means, rounded, and pixel centre c of it is
    # 2 c + 0.5 of the original.
    halved = np.rint(face.reshape(256, 2, 256, 2, 3).mean(axis=(1, 3))).astype(np.uint8)
    small = native([Item(image=halved)])[0]
    np.testing.assert_allclose(capped["points"], 2 * small["points"] + 0.5, atol=1e-9)
    np.testing.assert_allclose(capped["boxes"], 2 * small["boxes"] + 0.5, atol=1e-9)
    np.testing.assert_array_equal(capped["scores"], small["scores"])
    # And close to what is found at native size.
    whole = native([Item(image=face)])[0]
    assert np.abs(capped["points"] - whole["points"]).max() < 4


def test_pictures_up_to_the_limit_are_searched_as_they_are(photographs, native):
    items = [Item(image=photographs["astronaut"])]
    same(MTCNN(max_side=512)(items)[0], native(items)[0])


def test_the_native_detector_takes_over_what_was_not_shrunk(photographs, native):
    small = np.ascontiguousarray(photographs["astronaut"][:200, 120:320])
    shrinking = MTCNN(max_side=150)
    found = shrinking([Item(image=small)])[0]
    (anew,) = MTCNNNative()([Item(image=small, features={"mtcnn": found})])
    same(anew, native([Item(image=small)])[0])
    (kept,) = MTCNNNative()([Item(image=small, features={"mtcnn": anew})])
    assert kept is anew


def test_fingerprint_names_what_moves_a_number():
    plain = MTCNN().fingerprint()
    assert plain != MTCNN(max_side=None).fingerprint()
    assert plain != MTCNN(dtype="bfloat16").fingerprint()
    assert plain != MTCNNNative().fingerprint()
    # The first digits as printed in the metric specification.
    assert [digest[:8] for digest in plain["weights"]] == ["ea6b0c3e", "cb00e646", "94f6ea2f"]
    json.dumps(plain)


def test_unknown_dtype_and_tiny_limit_are_refused():
    with pytest.raises(ValueError, match=r"dtype must be one of float32.*got 'int8'"):
        MTCNN(dtype="int8")
    with pytest.raises(ValueError, match="max_side must be None or at least 12, got 3"):
        MTCNN(max_side=3)


@pytest.mark.parametrize(("dtype", "pixels"), [("float64", 0.01), ("bfloat16", 6)])
def test_other_arithmetic_finds_the_same_face(photographs, native, dtype, pixels):
    face = np.ascontiguousarray(photographs["astronaut"][20:220, 120:320])
    expected = native([Item(image=face)])[0]
    found = MTCNN(dtype=dtype, max_side=None)([Item(image=face)])[0]
    assert found["boxes"].shape == expected["boxes"].shape == (1, 4)
    np.testing.assert_allclose(found["points"], expected["points"], atol=pixels)


def test_weights_that_differ_are_not_opened(monkeypatch):
    wrong = packaged.PackagedFile(package="mtcnn", path=packaged.MTCNN_PNET.path, sha256="0" * 64)
    monkeypatch.setattr(mtcnn, "MTCNN_PNET", wrong)
    monkeypatch.setattr("joblib.load", lambda path: pytest.fail("opened an unverified pickle"))
    with pytest.raises(packaged.WeightsError, match=r"pnet\.lz4 has sha256 ea6b.*expected 0000"):
        MTCNN()([Item(image=np.zeros((64, 64, 3), np.uint8))])
