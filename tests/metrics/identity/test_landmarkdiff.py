import numpy as np
import pytest

from idbench.metrics.identity.landmarkdiff import (
    BOUNDS,
    landmark_difference,
    normalised,
    procrustes_difference,
)
from idbench.metrics.protocol import MissingValueError, Observation
from idbench.metrics.registry import resolve

A = np.array([(100, 100), (160, 100), (130, 140), (110, 170), (150, 170)], float)


def rotated(points, degrees):
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (points - points.mean(0)) @ turn.T + points.mean(0)


def nose_moved(points):
    moved = points.copy()
    moved[2] = 120, 140
    return moved


# Part F of the metric specification (the last one as in the golden file: F has a typing error).
@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (A, 0),
        (nose_moved(A), 0.03470887325098498),
        (rotated(A, 15), 0.10411903092674013),
        (2 * A + (37, -11), 0),
        (np.full((5, 2), 7.0), 0.38313243918344975),
    ],
)
def test_values_worked_by_hand(other, expected):
    assert landmark_difference(A, other) == pytest.approx(expected, abs=1e-15)


@pytest.mark.golden
def test_values_equal_those_of_ibench(core):
    cases = core["landmarkdiff"]
    assert cases
    for case in cases:
        found = landmark_difference(np.array(case["a"], float), np.array(case["b"], float))
        assert found == pytest.approx(case["value"], rel=1e-6, abs=1e-12), case["name"]


@pytest.mark.golden
def test_normalised_points_equal_those_of_ibench(core):
    expected = core["landmark_normalised_example"]
    names = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
    found = normalised(nose_moved(A))
    np.testing.assert_allclose(found, [expected[name] for name in names], rtol=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_properties_on_random_points(seed):
    generator = np.random.default_rng(seed)
    a, b = generator.normal(size=(2, 5, 2)) * 30 + 100
    value = landmark_difference(a, b)
    assert BOUNDS[0] <= value <= BOUNDS[1]
    assert landmark_difference(b, a) == pytest.approx(value)
    assert landmark_difference(a, 3 * b - 7) == pytest.approx(value)
    free = procrustes_difference(a, b)
    assert BOUNDS[0] <= free <= BOUNDS[1]
    assert procrustes_difference(a, rotated(2 * b + 5, 40)) == pytest.approx(free)


@pytest.mark.parametrize("degrees", [-170, -30, 15, 90])
def test_procrustes_does_not_count_roll(degrees):
    assert procrustes_difference(A, rotated(A, degrees)) == pytest.approx(0, abs=1e-12)


def test_procrustes_does_not_reflect():
    odd = A + np.array([[0, 0], [0, 0], [9, 0], [0, 4], [0, 0]])
    assert procrustes_difference(odd, odd * (-1, 1)) > 0.02


@pytest.mark.parametrize("seed", range(5))
def test_procrustes_fit_is_the_least_squares_one(seed):
    from scipy.optimize import minimize

    generator = np.random.default_rng(seed)
    a, b = generator.normal(size=(2, 5, 2))
    target, source = normalised(a), normalised(b)

    def residuals(parameters):
        p, q, x, y = parameters
        return target - source @ np.array([[p, q], [-q, p]]) - (x, y)

    best = minimize(lambda parameters: (residuals(parameters) ** 2).sum(), [1, 0, 0, 0], tol=1e-14)
    expected = np.linalg.norm(residuals(best.x), axis=1).mean()
    assert procrustes_difference(a, b) == pytest.approx(expected, abs=1e-5)


def test_equal_points_have_a_size_of_one():
    assert procrustes_difference(A, np.full((5, 2), 7.0)) == pytest.approx(0.38313243918344975)


def detected(*faces):
    return {
        "points_rounded": np.rint(np.reshape(faces, (-1, 5, 2))).astype(int),
        "points": np.reshape(faces, (-1, 5, 2)).astype(float),
    }


def ibench(reference, generated):
    features = {
        "reference": [{"mtcnn_native": reference}],
        "generated": [{"mtcnn_native": generated}],
    }
    metric = resolve(["landmarkdiff@ibench"])[0]
    return metric(Observation(prompt="", features=features))[""]


def test_ibench_takes_the_first_face_and_integers():
    shifted = nose_moved(A)
    assert ibench(detected(A, shifted), detected(shifted, A)) == pytest.approx(0.03470887325098498)
    assert ibench(detected(A), detected(A + 0.3)) == 0


def test_ibench_says_which_face_is_missing():
    for reference, generated, reason in (
        (detected(), detected(A), "no_reference_face"),
        (detected(A), detected(), "no_face"),
    ):
        with pytest.raises(MissingValueError) as caught:
            ibench(reference, generated)
        assert caught.value.missing.reason == reason


def test_strict_takes_the_face_that_is_most_similar():
    def features(points, numbers):
        boxes = np.array([[0, 0, 90 - 10 * k, 90] for k in range(len(numbers))], float)
        descriptors = np.zeros((len(numbers), 128))
        descriptors[:, 0] = numbers
        return {
            "mtcnn": {"boxes": boxes, "scores": np.ones(len(numbers)), "points": points},
            "dlib_face": {"descriptors": descriptors},
        }

    reference = features(A[None], [0.0])
    generated = features(np.stack([rotated(A, 90), rotated(A, 15)]), [0.8, 0.1])
    metric = resolve(["landmarkdiff@strict"])[0]
    found = metric(
        Observation(prompt="", features={"reference": [reference], "generated": [generated]})
    )
    assert found[""] == pytest.approx(0.10411903092674013)
    assert found["procrustes"] == pytest.approx(0, abs=1e-12)


def test_only_the_ibench_column_stands_beside_published_ones():
    columns = {
        metric.info.protocol: metric.info.comparable_to_published
        for metric in resolve(["landmarkdiff@ibench", "landmarkdiff@strict"])
    }
    assert columns == {"ibench": True, "strict": False}
