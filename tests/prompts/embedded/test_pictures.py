"""Crops, drawings and edits: exact where they claim it, and faces where people are."""

import io
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from idbench.prompts.embedded.drawn import DRAWN_FACES, drawn_portrait
from idbench.prompts.embedded.edits import edited, element_mask
from idbench.prompts.embedded.pictures import (
    Ellipse,
    blurred,
    enlarged,
    netpbm,
    photograph,
    reduced,
)
from idbench.prompts.embedded.recipes import PEOPLE, RECIPES

needs_photographs = pytest.mark.skipif(
    not (find_spec("skimage") and find_spec("insightface")),
    reason="the photographs come with scikit-image and insightface",
)
RNG = np.random.default_rng(5)


def _noise(height=48, width=64):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_netpbm_is_read_back_by_pillow():
    picture, mask = _noise(), RNG.random((9, 7)) < 0.5
    for array in (picture, mask):
        with Image.open(io.BytesIO(netpbm(array))) as image:
            expected = array * np.uint8(255) if array.dtype == bool else array
            assert np.array_equal(np.asarray(image), expected)


def test_reducing_an_enlarged_picture_gives_it_back():
    picture = _noise()
    assert np.array_equal(reduced(enlarged(picture)), picture)


def test_an_ellipse_has_the_area_of_its_equation():
    mask = Ellipse(x=100.3, y=80.7, rx=60, ry=40).mask(200, 220)
    assert mask.sum() == pytest.approx(np.pi * 60 * 40, rel=0.01)
    rows, columns = np.nonzero(mask)
    assert columns.mean() + 0.5 == pytest.approx(100.3, abs=0.3)
    assert rows.mean() + 0.5 == pytest.approx(80.7, abs=0.3)


def test_blurring_is_three_box_means():
    picture = np.zeros((41, 41, 3), dtype=np.uint8)
    picture[20, 20] = 255
    radius = 2
    kernel = np.ones(5) / 5
    once = np.convolve(np.convolve(kernel, kernel), kernel)
    expected = 255 * np.outer(once, once)
    found = blurred(picture, radius)[14:27, 14:27, 0]
    assert np.abs(found - expected).max() <= 3  # six roundings to whole numbers
    assert np.array_equal(blurred(np.full((8, 9, 3), 77, np.uint8), 3), np.full((8, 9, 3), 77))


@pytest.mark.parametrize("name", DRAWN_FACES)
def test_drawn_faces_differ_and_are_deterministic(name):
    first = drawn_portrait(DRAWN_FACES[name])
    assert np.array_equal(first, drawn_portrait(DRAWN_FACES[name]))
    assert first.shape == (512, 512, 3)
    others = [drawn_portrait(DRAWN_FACES[other]) for other in DRAWN_FACES if other != name]
    assert all((first != other).any() for other in others)


@pytest.fixture(scope="module")
def astronaut(tmp_path_factory):
    return photograph("astronaut", tmp_path_factory.mktemp("data"))


@needs_photographs
@pytest.mark.parametrize("element", ["glasses", "cap"])
def test_the_mask_is_exactly_what_the_element_changed(astronaut, element):
    mask = element_mask(element, 512, 512)
    result = edited(astronaut, element, "untouched")
    assert np.array_equal((result != astronaut).any(axis=2) & ~mask, np.zeros_like(mask))
    assert len(np.unique(result[mask], axis=0)) == 1
    assert (result[mask] != astronaut[mask]).any(axis=1).mean() > 0.99


@needs_photographs
@pytest.mark.parametrize("element", ["glasses", "cap"])
def test_the_element_does_not_depend_on_the_face(astronaut, element):
    mask = element_mask(element, 512, 512)
    results = [edited(astronaut, element, t) for t in ("untouched", "blurred", "swapped")]
    for result in results[1:]:
        assert np.array_equal(result[mask], results[0][mask])
        changed = (result != results[0]).any(axis=2)
        rows, columns = np.nonzero(changed)
        assert changed.sum() > 3000
        assert columns.min() >= 180
        assert columns.max() <= 266
        assert rows.min() >= 65
        assert rows.max() <= 175


@pytest.fixture(scope="module")
def cuts(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return {
        person.name: np.asarray(Image.open(io.BytesIO(RECIPES[f"people/{person.name}.ppm"](root))))
        for person in PEOPLE
    }


@needs_photographs
def test_cuts_are_squares_inside_the_photograph(cuts):
    for cut in cuts.values():
        assert cut.shape == (256, 256, 3)


@needs_photographs
def test_an_independent_detector_finds_one_face_where_the_box_is(cuts):
    dlib = pytest.importorskip("dlib", reason="the detector is dlib's")
    detector = dlib.get_frontal_face_detector()
    for person in PEOPLE:
        found = detector(cuts[person.name], 1)
        assert len(found) == 1, person.name
        x0, y0, x1, y1 = person.face_box
        centre = found[0].center()
        assert x0 < centre.x < x1
        assert y0 < centre.y < y1


@needs_photographs
def test_boxes_are_those_of_the_reference_detections(cuts, golden_file):
    import json

    images = json.loads(golden_file("metrics_mtcnn.json").read_text())["images"]
    names = {"t1": "insightface/t1.jpg", "astronaut": "skimage/astronaut.png"}
    for person in PEOPLE:
        x0, y0, x1, y1 = person.face_box
        left, top = person.cut[:2]
        expected = [
            (x, y, x + width, y + height)
            for x, y, width, height in (
                face["box"] for face in images[names[person.photograph]]["full"]
            )
        ]
        moved = np.array([x0 + left, y0 + top, x1 + left, y1 + top])
        assert min(np.abs(moved - box).max() for box in np.array(expected)) <= 1
