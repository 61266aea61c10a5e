import json

import numpy as np
import pytest
from PIL import Image

from idbench.metrics.extractors.dlib_face import (
    DlibFace,
    dlib_rectangles,
    five_of_68,
    upright_patch,
)
from idbench.metrics.protocol import Item
from idbench.metrics.registry import missing_requirements

MISSING = missing_requirements("dlib_face")
pytestmark = pytest.mark.skipif(bool(MISSING), reason="; ".join(MISSING))


@pytest.fixture(scope="module")
def golden(golden_file):
    return json.loads(golden_file("metrics_embedded.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def computed(golden, labelled_image):
    """What the extractor says about each picture of the goldens that is installed, by label."""
    from idbench.metrics.extractors.mtcnn import MTCNN

    detector, extractor, found = MTCNN(max_side=None), DlibFace(upright=False), {}
    for label in golden["faces"]:
        try:
            image = labelled_image(label)
        except pytest.skip.Exception:  # the pictures that are installed are compared all the same
            continue
        faces = detector([Item(image=image)])[0]
        found[label] = extractor([Item(image=image, features={"mtcnn": faces})])[0]
    if not found:
        pytest.skip("none of the golden pictures is installed")
    return found


@pytest.mark.golden
def test_rectangles_and_68_points_equal_the_reference(golden, computed):
    for label, found in computed.items():
        faces = golden["faces"][label]
        assert found["rectangles"].tolist() == [face["rect"] for face in faces]
        expected = np.array([face["points68"] for face in faces])
        assert np.abs(found["points68"] - expected).max() <= 1


@pytest.mark.golden
def test_head_pose_equals_the_reference(golden, computed):
    for label, found in computed.items():
        expected = [
            [face["pose"][axis] for axis in ("yaw", "pitch", "roll")]
            for face in golden["faces"][label]
        ]
        np.testing.assert_allclose(found["pose"], expected, atol=0.2, rtol=0)


@pytest.mark.golden
def test_descriptors_lie_as_far_apart_as_the_reference(golden, computed):
    if computed.keys() != golden["faces"].keys():
        pytest.skip("some golden pictures are not installed")
    for label, found in computed.items():
        expected = np.array([face["embedding"] for face in golden["faces"][label]])
        assert np.linalg.norm(found["descriptors"] - expected, axis=1).max() < 0.02
    every = np.concatenate([found["descriptors"] for found in computed.values()])
    distance = np.linalg.norm(every[:, None] - every, axis=2)
    np.testing.assert_allclose(distance, golden["pairwise_distance"], atol=0.02, rtol=0)


def test_rectangle_by_hand():
    # 80 wide, 100 high: side 90 about (50, 60 + 8), rounded half to even.
    assert dlib_rectangles(np.array([[10.0, 10, 90, 110]])).tolist() == [[5, 23, 95, 113]]


def test_faces_of_a_batch_equal_faces_alone(photographs, embedded):
    face = np.ascontiguousarray(photographs["astronaut"][20:220, 120:320])
    group = np.ascontiguousarray(photographs["t1"][40:260, 700:1060])
    items = [
        Item(image=image, features={"mtcnn": embedded.features(image)["mtcnn"]})
        for image in (face, group, np.zeros((80, 80, 3), np.uint8))
    ]
    extractor = embedded.extractors["dlib_face"]
    together = extractor(items)
    for item, found in zip(items, together, strict=True):
        (alone,) = extractor([item])
        for name in found:
            np.testing.assert_array_equal(alone[name], found[name])
    assert len(together[0]["pose"]) == 1


def test_a_picture_without_faces_has_empty_features(embedded):
    found = embedded.features(np.full((60, 60, 3), 90, np.uint8))["dlib_face"]
    shapes = {name: array.shape for name, array in found.items()}
    assert shapes == {
        "rectangles": (0, 4),
        "points68": (0, 68, 2),
        "pose": (0, 3),
        "descriptors": (0, 128),
    }


def test_an_upright_patch_levels_the_eyes_and_points_come_back():
    # Eyes on a line that falls by 45 degrees, about the middle (50, 60) of the box.
    image = np.zeros((120, 100, 3), np.uint8)
    image[60, 50] = 255
    five = np.array([[45.0, 50], [55, 60], [48, 62], [40, 65], [50, 75]])
    patch = upright_patch(image, np.array([30.0, 40, 70, 80]), five)
    assert patch.pixels.shape == (121, 121, 3)
    np.testing.assert_allclose(patch.five[0, 1], patch.five[1, 1], atol=1e-9)
    np.testing.assert_allclose(patch.five[1, 0] - patch.five[0, 0], np.hypot(10, 10), atol=1e-9)
    np.testing.assert_allclose(patch.to_image(patch.five), five, atol=1e-9)
    # The middle of the box stays where it is, in the pixels as well as in the points.
    np.testing.assert_allclose(patch.box, [40, 40, 80, 80], atol=1e-9)
    assert np.unravel_index(patch.pixels[..., 0].argmax(), (121, 121)) == (60, 60)


def test_pixels_turn_the_way_the_points_do():
    image = np.zeros((101, 101, 3), np.uint8)
    image[40:43, 59:62] = 255  # a mark about (60, 41)
    five = np.array([[40.0, 40], [60, 41], [50, 50], [42, 60], [58, 60]])
    patch = upright_patch(image, np.array([30.0, 30, 70, 70]), five)
    rows, columns = np.nonzero(patch.pixels[..., 0] > 100)
    np.testing.assert_allclose([columns.mean(), rows.mean()], patch.five[1], atol=0.5)


def test_five_points_of_68():
    points = np.stack([np.arange(68.0), 2 * np.arange(68.0)], axis=1)
    # Means of 36..41 and 42..47, then 30, 48 and 54.
    assert five_of_68(points)[:, 0].tolist() == [38.5, 44.5, 30, 48, 54]
    assert five_of_68(points)[:, 1].tolist() == [77, 89, 60, 96, 108]


@pytest.mark.parametrize("degrees", [-30, -15, 15, 30])
def test_a_tilted_head_is_the_same_person_at_the_tilted_angle(photographs, embedded, degrees):
    # t1's first face from the left leans by about 25 degrees already.
    picture = np.ascontiguousarray(photographs["t1"][202:458, 0:256])
    turned = np.array(Image.fromarray(picture).rotate(degrees, Image.Resampling.BICUBIC))
    plain, tilted = (embedded.features(image)["dlib_face"] for image in (picture, turned))
    distance = np.linalg.norm(plain["descriptors"][0] - tilted["descriptors"][0])
    assert 1 - distance / 1.2 >= 0.85
    assert abs(tilted["pose"][0, 2] - plain["pose"][0, 2] + degrees) < 8
