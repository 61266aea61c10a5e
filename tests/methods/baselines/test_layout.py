"""How photographs fill a canvas: nothing stretched, no face cut, people in their places."""

import itertools

import numpy as np
import pytest
from PIL import Image

from idbench.methods.baselines.copying import Copy
from idbench.methods.baselines.geometry import Mirror
from idbench.methods.baselines.layout import fit, panels
from idbench.methods.baselines.photos import Photo
from idbench.methods.baselines.swap import Swap
from idbench.methods.protocol import Failure, Person, Reference, Request

RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)


def plain(colour, size=(60, 60)):
    return Image.new("RGB", size, colour)


def several(images, *, boxes=None, **changes):
    people = ()
    if boxes:
        people = tuple(Person(person=index, box=box) for index, box in enumerate(boxes))
    references = tuple(
        Reference(image=image, sha256="0" * 64, person=index) for index, image in enumerate(images)
    )
    fields = {"case_id": "c0", "sample": 0, "seed": 1, "prompt": "", "kind": "multi_id"}
    return Request(**(fields | {"references": references, "people": people} | changes))


def answer(method, asked):
    (found,) = method.generate([asked])
    assert isinstance(found, Image.Image), found
    return np.asarray(found)


def test_its_own_size_leaves_a_photograph_alone():
    photo = Photo(image=plain(RED), face_box=(1.0, 2.0, 3.0, 4.0))
    assert fit(photo, 60, 60) is photo


def test_without_a_face_box_nothing_is_cut_off():
    # 40 x 20 onto 80 x 80: scaled by 2 to 80 x 40, edges repeated above and below;
    # Lanczos reaches three pixels of the photograph, six here, across the border at 40.
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:10], pixels[10:] = RED, BLUE
    found = np.asarray(fit(Photo(image=Image.fromarray(pixels)), 80, 80).image)
    assert (found[:33] == RED).all()
    assert (found[47:] == BLUE).all()


def test_a_known_face_allows_cutting_to_fill_the_canvas():
    # 40 x 20 onto 80 x 80 with a small face: scaled by 4 to cover, the window of 20 x 20 pixels
    # centred on the face at x = 30 runs from 20 to 40.
    photo = Photo(image=plain(RED, (40, 20)), face_box=(28.0, 8.0, 32.0, 12.0))
    assert fit(photo, 80, 80).face_box == (32.0, 32.0, 48.0, 48.0)


def test_a_large_face_is_never_cut():
    photo = Photo(image=plain(RED, (40, 40)), face_box=(5.0, 5.0, 35.0, 35.0))
    for size in ((100, 20), (20, 100), (33, 47)):
        placed = fit(photo, *size)
        x0, y0, x1, y1 = placed.face_box
        assert placed.image.size == size
        assert min(x0, y0) >= -1e-9
        assert x1 <= size[0] + 1e-9
        assert y1 <= size[1] + 1e-9
        assert (x1 - x0) == pytest.approx(y1 - y0)  # 30 x 30 stays square


def test_the_face_box_marks_the_same_pixels_after_fitting():
    pixels = np.full((100, 150, 3), 255, np.uint8)
    pixels[30:60, 90:120] = (0, 0, 0)
    photo = Photo(image=Image.fromarray(pixels), face_box=(90.0, 30.0, 120.0, 60.0))
    for size in ((300, 100), (64, 200), (40, 40), (150, 101)):
        placed = fit(photo, *size)
        dark = np.argwhere(np.asarray(placed.image)[:, :, 0] < 128)
        y0, x0 = dark.min(axis=0)
        y1, x1 = dark.max(axis=0) + 1
        np.testing.assert_allclose(placed.face_box, (x0, y0, x1, y1), atol=1.0)


def test_people_stand_side_by_side_at_their_own_shapes():
    found = answer(Copy(), several([plain(RED, (30, 60)), plain(BLUE, (60, 60))]))
    assert found.shape == (60, 90, 3)
    assert (found[:, :30] == RED).all()
    assert (found[:, 30:] == BLUE).all()


def test_smaller_photographs_take_the_height_of_the_tallest():
    found = answer(Copy(), several([plain(RED, (10, 20)), plain(BLUE, (60, 60))]))
    assert found.shape == (60, 90, 3)  # 10 x 20 becomes 30 x 60


def test_boxes_place_people():
    boxes = [(0.5, 0.1, 0.9, 0.6), (0.05, 0.1, 0.3, 0.6)]  # the first person stands on the right
    found = answer(Copy(), several([plain(RED), plain(BLUE)], boxes=boxes, width=100, height=50))
    assert (found[:, :40] == BLUE).all()  # the border lies midway between 0.3 and 0.5
    assert (found[:, 40:] == RED).all()


def test_boxes_above_one_another_fall_back_to_shapes():
    boxes = [(0.2, 0.0, 0.8, 0.5), (0.2, 0.5, 0.8, 1.0)]
    asked = several([plain(RED), plain(BLUE)], boxes=boxes, width=100, height=50)
    found = answer(Copy(), asked)
    assert (found[:, :50] == RED).all()
    assert (found[:, 50:] == BLUE).all()


def test_one_reference_of_each_person_is_shown():
    asked = several([plain(RED), plain(GREEN), plain(BLUE)])
    twice = tuple(
        Reference(image=reference.image, sha256="", person=person)
        for reference, person in zip(asked.references, (0, 0, 1), strict=True)
    )
    found = answer(Copy(), several([], references=twice))
    assert found.shape == (60, 120, 3)
    assert (found[:, :60] == RED).all()
    assert (found[:, 60:] == BLUE).all()


def test_a_change_leaves_people_in_their_places():
    half = np.zeros((60, 60, 3), np.uint8)
    half[:, :30], half[:, 30:] = RED, GREEN
    found = answer(Mirror(), several([Image.fromarray(half), plain(BLUE)]))
    assert (found[:, :30] == GREEN).all()
    assert (found[:, 30:60] == RED).all()
    assert (found[:, 60:] == BLUE).all()


def test_swap_replaces_everybody_by_the_stranger():
    stranger = Reference(image=plain(GREEN, (30, 60)), sha256="")
    found = answer(Swap(), several([plain(RED), plain(BLUE)], distractor=stranger))
    assert found.shape == (60, 60, 3)
    assert (found == GREEN).all()


@pytest.mark.parametrize("count", [2, 3, 7])
def test_panels_cover_the_canvas_without_gaps(count):
    photos = [Photo(image=plain(RED, (1 + 37 * index, 40))) for index in range(count)]
    for width in (count, count + 1, 101):
        spans = panels((width, 40), photos)
        assert spans[0][0] == 0
        assert spans[-1][1] == width
        assert all(left < right for left, right in spans)
        assert all(one[1] == two[0] for one, two in itertools.pairwise(spans))


def test_more_people_than_pixels_is_a_failure():
    (found,) = Copy().generate([several([plain(RED), plain(BLUE)], width=1, height=10)])
    assert isinstance(found, Failure)
    assert found.reason == "bad_size"


def test_an_edit_without_its_images_is_a_failure():
    (found,) = Copy().generate([several([plain(RED)], kind="edit_restoration")])
    assert isinstance(found, Failure)
    assert found.reason == "no_edit"
