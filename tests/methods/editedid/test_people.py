import numpy as np
import pytest
from PIL import Image, ImageDraw

from idbench.methods.editedid.faces import (
    DlibFaces,
    Face,
    InsightFaces,
    NoFaceError,
    intersection_over_union,
)
from idbench.methods.editedid.jobs import EditedElement, FacePlace, Job
from idbench.methods.editedid.people import associate, bind_mask, find_people
from idbench.methods.editedid.preparing import elements_by_person

SIZES = ((400, 200), (400, 200))


def face(x, y=50, side=60, embedding=None):
    vector = None if embedding is None else np.array(embedding, dtype=float)
    return Face(box=(x, y, x + side, y + side), embedding=vector)


def job(**changes):
    blank = Image.new("RGB", (400, 200))
    return Job(**{"original": blank, "edited": blank, **changes})


def people_of(*arguments):
    return find_people(*arguments).people


def detector(originals, edited):
    answers = iter([originals, edited])
    return lambda image: next(answers)


def test_iou_by_hand():
    assert intersection_over_union((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert intersection_over_union((0, 0, 2, 2), (2, 0, 3, 2)) == 0.0


def test_association_is_by_place_not_by_order():
    originals, edited = [face(10), face(150), face(300)], [face(305), face(12), face(148)]
    assert associate(originals, edited, SIZES) == [(2, 0), (0, 1), (1, 2)]


def test_association_follows_the_size_of_the_image():
    assert associate([face(100, 50, 60)], [face(200, 100, 120)], ((400, 200), (800, 400))) == [
        (0, 0)
    ]


def test_strangers_are_left_out():
    # IoU of boxes 60 wide that overlap by 6: 6 / 114 < 0.1.
    assert associate([face(0)], [face(54)], SIZES) == []
    # Overlap of 12: 12 / 108 > 0.1.
    assert associate([face(0)], [face(48)], SIZES) == [(0, 0)]


def test_identity_decides_where_images_are_not_registered():
    """Costs by hand: 1 - 1/3 + .5 * (1 - 1) = .667 against 1 - 1/3 + .5 * (1 - 0) = 1.167."""
    originals = [face(0, embedding=[1, 0]), face(60, embedding=[0, 1])]
    edited = [face(30, embedding=[0, 1])]
    assert associate(originals, edited, SIZES, registered=False) == [(1, 0)]


def test_detected_people_come_left_to_right_of_the_edited_image():
    people = people_of(job(), job().edited, detector([face(300), face(10)], [face(12), face(298)]))
    assert [(p.person, p.original.box[0], p.edited.box[0]) for p in people] == [
        (0, 10, 12),
        (1, 300, 298),
    ]


def test_faces_without_a_partner_are_named():
    found = find_people(job(), job().edited, detector([face(10), face(300)], [face(12), face(150)]))
    assert len(found.people) == 1
    lost = "was not found in the other image; give its box"
    assert found.left_out == [
        f"the face at 300, 50, 360, 110 of the original {lost}",
        f"the face at 150, 50, 210, 110 of the edited image {lost}",
    ]


def test_stated_pairs_override_association():
    swapped = job(pairs=((1, 0), (0, 1)))
    people = people_of(
        swapped, swapped.edited, detector([face(10), face(300)], [face(12), face(298)])
    )
    assert [p.original.box[0] for p in people] == [300, 10]


def test_a_pair_that_is_not_there_is_an_error():
    with pytest.raises(NoFaceError, match="pair 0:3 names a face that is not there: 1 found"):
        find_people(job(pairs=((0, 3),)), job().edited, detector([face(1)], [face(2)]))


def test_faces_that_the_edit_destroyed_are_taken_to_be_where_they_were():
    wide = Image.new("RGB", (800, 400))
    people = people_of(job(edited=wide), wide, detector([face(100)], []))
    assert people[0].original is None
    assert people[0].edited.box == (200, 100, 320, 220)


def test_known_places_need_no_detector():
    places = (
        FacePlace(person=1, original_box=(300, 50, 360, 110), edited_box=(200, 50, 260, 110)),
        FacePlace(person=0, edited_box=(10, 50, 70, 110)),
        FacePlace(person=2, edited_box=(340, 50, 399, 110), restore=False),
    )
    people = people_of(job(places=places), job().edited, None)
    assert [p.person for p in people] == [0, 1]
    assert people[0].original is None
    assert people[1].original.box == (300, 50, 360, 110)


def test_known_places_take_landmarks_of_the_faces_detected_there():
    points = np.zeros((5, 2))
    seen = Face(box=(302, 52, 362, 112), landmarks=points)
    places = (FacePlace(person=0, original_box=(300, 50, 360, 110), edited_box=(10, 50, 70, 110)),)
    (person,) = people_of(job(places=places), job().edited, detector([face(5), seen], [face(200)]))
    assert person.original.landmarks is points
    assert person.edited.landmarks is None


@pytest.mark.parametrize(
    ("changes", "found", "message"),
    [
        ({}, None, "no face detector and no known place"),
        ({}, ([], []), "0 found in the original and 0 in the edited"),
        ({}, ([], [face(1)]), "0 found in the original and 1 in the edited"),
        ({}, ([face(1)], [face(300)]), "none of them the same"),
    ],
)
def test_nobody_to_restore_is_an_error(changes, found, message):
    with pytest.raises(NoFaceError, match=message):
        find_people(job(**changes), job().edited, detector(*found) if found else None)


def test_nobody_wanted_is_an_error():
    places = (FacePlace(person=0, edited_box=(1, 1, 9, 9), restore=False),)
    with pytest.raises(NoFaceError, match="restore=False"):
        find_people(job(places=places), job().edited, None)


def test_a_place_without_a_box_is_refused():
    with pytest.raises(ValueError, match="person 3 has a place without a box"):
        FacePlace(person=3)


def two_glasses():
    mask = Image.new("L", (400, 200))
    draw = ImageDraw.Draw(mask)
    draw.rectangle((15, 70, 65, 80), fill=255)
    draw.rectangle((305, 70, 355, 80), fill=255)
    draw.rectangle((320, 5, 340, 15), fill=255)  # a hat above the second face
    return mask


def test_parts_of_a_mask_go_to_the_face_they_overlap_or_are_nearest_to():
    first, second = bind_mask(two_glasses(), [face(10).box, face(300).box])
    assert first.getbbox() == (15, 70, 66, 81)
    assert second.getbbox() == (305, 5, 356, 81)


def test_a_face_without_a_part_gets_no_mask():
    assert bind_mask(Image.new("L", (400, 200)), [face(10).box]) == [None]


def test_elements_of_a_named_person_stay_with_it():
    wanted = (
        EditedElement(text="glasses", mask=two_glasses()),
        EditedElement(text="cap", mask=two_glasses(), person=1),
        EditedElement(text="hair"),
    )
    people = people_of(job(), job().edited, detector([face(10), face(300)], [face(10), face(300)]))
    shares = elements_by_person(job(elements=wanted), people, (400, 200))
    assert [[element.text for element in share] for share in shares] == [
        ["glasses", "hair"],
        ["glasses", "cap", "hair"],
    ]
    assert shares[0][0].mask.getbbox() == (15, 70, 66, 81)
    assert shares[1][1].mask.getbbox() == (15, 5, 356, 81)


@pytest.fixture(scope="module")
def astronaut():
    data = pytest.importorskip("skimage.data")
    return Image.fromarray(data.astronaut())


def test_dlib_finds_the_astronaut(astronaut):
    pytest.importorskip("dlib")
    (found,) = DlibFaces()(astronaut)
    # Facts about the photograph: the face is in (182, 64, 265, 171), the eyes near (203, 101) and
    # (245, 102).
    assert intersection_over_union(found.box, (182, 64, 265, 171)) > 0.5
    np.testing.assert_allclose(found.landmarks[:2], [[203.5, 101], [245.5, 102.5]], atol=5)
    assert np.linalg.norm(found.embedding) == pytest.approx(1.0)


def test_an_empty_folder_of_onnx_files_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"buffalo_l\.zip"):
        InsightFaces(tmp_path)
