"""Properties of the small mathematical modules, and cases worked by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from idbench.metrics.binned_angles import expected_angles, expected_angles_ibench
from idbench.metrics.cosine import cosine, cosines
from idbench.metrics.distributions import entropy, jensen_shannon, softmax
from idbench.metrics.frechet import Moments, frechet_distance, kernel_distance, polynomial_mmd
from idbench.metrics.identity.copy_paste import copy_paste
from idbench.metrics.matching import by_position, greedy, optimal
from idbench.metrics.mrank import mrank
from idbench.metrics.text.clip_t import scored_share

vectors = arrays(np.float64, 6, elements=st.floats(-100, 100, width=32))


@given(vectors, vectors)
def test_cosine_is_symmetric_and_bounded(a, b):
    value = cosine(a, b)
    if np.linalg.norm(a) < 1e-150 or np.linalg.norm(b) < 1e-150:
        return
    assert -1 <= value <= 1
    assert value == pytest.approx(cosine(b, a), abs=1e-12)
    assert cosine(a, a) == pytest.approx(1)
    assert cosine(a, -a) == pytest.approx(-1)


def test_cosine_with_a_zero_vector_is_nan_as_in_the_original():
    assert math.isnan(cosine(np.zeros(3), np.ones(3)))
    assert cosines(np.ones(3), np.empty((0, 3))).shape == (0,)


def test_angles_of_one_hot_logits():
    logits = np.full((3, 66), -1e4)
    logits[[0, 1, 2], [0, 33, 65]] = 0
    np.testing.assert_allclose(expected_angles(logits), [-99, 0, 96], atol=1e-9)


def test_large_logits_overflow_only_in_the_original():
    logits = np.zeros(66)
    logits[33] = 200
    assert expected_angles(logits) == pytest.approx(0)
    assert math.isnan(expected_angles_ibench(logits))


@given(arrays(np.float64, 5, elements=st.floats(-50, 50)))
def test_softmax_sums_to_one_and_ignores_a_shift(z):
    assert softmax(z).sum() == pytest.approx(1)
    np.testing.assert_allclose(softmax(z), softmax(z + 7), atol=1e-12)


def test_entropy_and_divergence_of_extreme_distributions():
    one, other = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert entropy(one) == 0
    assert entropy(np.full(4, 0.25)) == pytest.approx(math.log(4))
    assert jensen_shannon(one, one) == 0
    assert jensen_shannon(one, other) == pytest.approx(math.log(2))


def test_greedy_is_not_optimal():
    # DynamicID's specification, check 18.
    matrix = np.array([[0.9, 0.8], [0.85, 0.1]])
    assert greedy(matrix).similarities == (0.9, 0.1)
    assert greedy(matrix).mean == pytest.approx(0.5)
    assert greedy(matrix).minimum == pytest.approx(0.1)
    assert optimal(matrix).mean == pytest.approx(0.825)


def test_a_person_without_a_face_counts_zero():
    found = greedy(np.array([[0.7], [0.6]]))
    assert found.mean == pytest.approx(0.35)
    assert found.minimum == 0
    assert optimal(np.array([[0.7], [0.6]])).pairs == ((0, 0),)
    assert optimal(np.empty((2, 0))).mean == 0


def test_ties_go_to_the_leftmost_face_and_then_to_the_first_person():
    assert greedy(np.full((2, 2), 0.5)).pairs == ((0, 0), (1, 1))
    assert greedy(np.array([[0.1, 0.5], [0.5, 0.5]])).pairs[0] == (1, 0)


def test_faces_belong_to_people_from_left_to_right():
    boxes = np.array([[300, 0, 400, 90], [10, 0, 90, 90], [150, 0, 250, 90]], float)
    assert by_position(boxes, 3, 400) == {0: 1, 1: 2, 2: 0}
    assert by_position(boxes[:1], 2, 400) == {1: 0}
    assert by_position(boxes[:1], 2, 400, centres=np.array([0.9, 0.1])) == {0: 0}
    assert by_position(np.empty((0, 4)), 2, 400) == {}


def test_ranks_by_hand():
    table = {"a": [1.0, 5.0], "b": [2.0, 5.0], "c": [3.0, 1.0]}
    assert mrank(table, [True, True]) == {"a": 2.0, "b": 1.5, "c": 2.0}
    assert mrank(table, [False, True]) == {"a": 1.0, "b": 1.5, "c": 3.0}
    assert mrank(table, [True, True], ties="average") == {"a": 2.25, "b": 1.75, "c": 2.0}
    assert mrank(table, [True, True], ties="max") == {"a": 2.5, "b": 2.0, "c": 2.0}
    assert mrank(table, [True, True], ties="ordinal") == {"a": 2.0, "b": 2.0, "c": 2.0}


@pytest.mark.parametrize(
    ("table", "directions"),
    [({}, [True]), ({"a": [1.0]}, []), ({"a": [1.0, 2.0]}, [True]), ({"a": [math.nan]}, [True])],
)
def test_a_table_without_every_value_has_no_rank(table, directions):
    with pytest.raises(ValueError, match="mRank needs"):
        mrank(table, directions)


@pytest.fixture
def samples():
    random = np.random.default_rng(3)
    return random.normal(size=(120, 5)), random.normal(0.4, 1.2, size=(90, 5))


def test_merged_moments_are_those_of_the_whole(samples):
    x, _ = samples
    parts = [Moments.of(part) for part in np.array_split(x, 7)]
    for order in (parts, parts[::-1]):
        whole = order[0]
        for part in order[1:]:
            whole = whole.merged(part)
        assert whole.count == len(x)
        np.testing.assert_allclose(whole.mean, x.mean(0), atol=1e-12)
        np.testing.assert_allclose(whole.covariance, np.cov(x, rowvar=False), atol=1e-12)
    empty = Moments.of(np.empty((0, 5)))
    np.testing.assert_array_equal(empty.merged(parts[0]).mean, parts[0].mean)


def test_distance_of_a_set_from_itself_is_zero(samples):
    moments = Moments.of(samples[0])
    arguments = (moments.mean, moments.covariance)
    assert frechet_distance(*arguments, *arguments) == pytest.approx(0, abs=1e-9)


def test_kernel_distance_against_the_definition(samples):
    x, y = (part[:20] for part in samples)

    def kernel(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    expected = np.mean([kernel(x[i], x[j]) for i in range(20) for j in range(20) if i != j])
    expected += np.mean([kernel(y[i], y[j]) for i in range(20) for j in range(20) if i != j])
    expected -= 2 * np.mean([kernel(a, b) for a in x for b in y])
    assert polynomial_mmd(x, y) == pytest.approx(expected, rel=1e-9)
    assert kernel_distance(x, y) == pytest.approx(expected, rel=1e-9)


def test_kernel_distance_of_one_source_is_about_zero():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(2, 400, 8))
    far = random.normal(0.5, 1, size=(400, 8))
    same = kernel_distance(x, y, subsets=20, subset_size=100)
    assert abs(same) < 0.05
    assert kernel_distance(x, far, subsets=20, subset_size=100) > 10 * abs(same)
    with pytest.raises(ValueError, match="two vectors"):
        polynomial_mmd(x[:1], y)


def test_copy_paste_at_its_corners():
    # The generated face is the reference; the ground truth; on the other side of the truth.
    assert copy_paste(0.8, 0.0, 0.8) == 1
    assert copy_paste(0.0, 0.8, 0.8) == -1
    assert copy_paste(0.5, 0.5, 0.8) == 0
    with pytest.raises(ValueError, match="angle"):
        copy_paste(0.5, 0.5, 0.0)


@pytest.mark.parametrize(("tokens", "share"), [(0, 1.0), (75, 1.0), (150, 0.5), (100, 0.75)])
def test_share_of_a_prompt_that_is_scored(tokens, share):
    assert scored_share(tokens) == share
