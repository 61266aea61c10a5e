import numpy as np
import pytest

from idbench.metrics.faces import DLIB, dlib_similarity, eligible_faces, match_faces
from idbench.metrics.protocol import Missing, MissingValueError, Observation, Subject


def face_features(boxes, embeddings, scores=None):
    """Features of a picture with these faces; embeddings are (first number, zeros...)."""
    boxes = np.reshape(np.asarray(boxes, float), (-1, 4))
    descriptors = np.zeros((len(boxes), 128))
    descriptors[:, 0] = embeddings
    scores = np.full(len(boxes), 0.99) if scores is None else np.asarray(scores)
    return {"mtcnn": {"boxes": boxes, "scores": scores}, "dlib_face": {"descriptors": descriptors}}


def observe(reference, generated, **more):
    features = {"reference": [reference], "generated": [generated]}
    return Observation(prompt="", features=features, **more)


SMALL, MEDIUM, LARGE = [0, 0, 30, 40], [50, 0, 90, 60], [100, 0, 180, 100]


def test_similarity_is_one_less_distance_over_1_2():
    zero = np.zeros(128)
    others = np.zeros((3, 128))
    others[1, 5] = 0.6
    others[2, [3, 4]] = 0.96, 0.72  # distance 1.2
    np.testing.assert_allclose(dlib_similarity(zero, others), [1.0, 0.5, 0.0])


def test_of_the_reference_the_largest_face_counts():
    reference = face_features([SMALL, LARGE, MEDIUM], [0.0, 0.5, 0.9])
    match = match_faces(observe(reference, face_features([LARGE], [0.5])), DLIB)
    assert match.reference == 1
    assert match.best_similarity == pytest.approx(1)


def test_of_the_generated_image_the_most_similar_face_counts():
    generated = face_features([LARGE, SMALL, MEDIUM], [0.9, 0.3, 0.6])
    match = match_faces(observe(face_features([MEDIUM], [0.0]), generated), DLIB)
    assert (match.best, match.largest, match.n_faces) == (1, 0, 3)
    assert match.best_similarity == pytest.approx(1 - 0.3 / 1.2)
    assert match.largest_similarity == pytest.approx(1 - 0.9 / 1.2)


def test_faces_that_are_small_or_uncertain_do_not_count():
    boxes = [[0, 0, 24, 24], [0, 0, 23.9, 80], [0, 0, 80, 23.9], [0, 0, 90, 90], [0, 0, 90, 90]]
    generated = face_features(boxes, [0.9, 0.0, 0.0, 0.0, 0.1], [0.9, 0.9, 0.9, 0.49, 0.5])
    assert eligible_faces(generated["mtcnn"]).tolist() == [0, 4]
    match = match_faces(observe(face_features([LARGE], [0.0]), generated), DLIB)
    assert match.best == 4
    assert match.largest == 4


def reason_of(observation):
    with pytest.raises(MissingValueError) as caught:
        match_faces(observation, DLIB)
    return caught.value.missing.reason


def test_missing_faces_are_told_apart():
    none, one = face_features([], []), face_features([LARGE], [0.0])
    tiny = face_features([[0, 0, 10, 10]], [0.0])
    assert reason_of(observe(none, one)) == "no_reference_face"
    assert reason_of(observe(one, none)) == "no_face"
    assert reason_of(observe(one, tiny)) == "no_face"
    assert reason_of(observe(none, none)) == "no_reference_face"


def test_a_small_face_of_the_reference_counts():
    tiny = face_features([[0, 0, 10, 10]], [0.0])
    assert match_faces(observe(tiny, face_features([LARGE], [0.6])), DLIB).reference == 0


def test_what_the_extractor_could_not_do_is_passed_on():
    lost = {"mtcnn": Missing("error", "disk"), "dlib_face": Missing("error", "disk")}
    assert reason_of(observe(face_features([LARGE], [0.0]), lost)) == "error"


def test_a_case_with_two_people_is_not_scored_as_one():
    one = face_features([LARGE], [0.0])
    people = (Subject(person=0), Subject(person=1))
    assert reason_of(observe(one, one, subjects=people)) == "several_people"
    assert match_faces(observe(one, one, subjects=people[:1]), DLIB).best == 0
