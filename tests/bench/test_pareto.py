import math

import numpy as np
import pandas as pd
import pytest

from idbench.pareto import (
    bootstrap_means,
    dominates,
    front,
    hypervolume,
    knee,
    membership,
)

UP = [True, True]
# On paper: a (1, 5), b (3, 4), c (2, 2), d (5, 1), e (3, 3).
POINTS = np.array([[1.0, 5.0], [3.0, 4.0], [2.0, 2.0], [5.0, 1.0], [3.0, 3.0]])


def test_front_by_hand():
    assert front(POINTS, UP).tolist() == [True, True, False, True, False]


def test_dominance_by_hand():
    found = dominates(POINTS, UP)
    assert [tuple(pair) for pair in np.argwhere(found)] == [(1, 2), (1, 4), (4, 2)]


def test_direction_turns_the_front():
    assert front(POINTS, [False, False]).tolist() == [True, False, True, True, False]
    assert front(POINTS, [True, False]).tolist() == [False, False, False, True, False]
    turned = POINTS * [1, -1]
    assert front(turned, [True, False]).tolist() == front(POINTS, UP).tolist()


def test_equal_points_share_the_front():
    assert front(np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0]]), UP).tolist() == [True, True, False]


def test_incomplete_point_is_never_on_the_front_and_dominates_nobody():
    points = np.array([[9.0, math.nan], [1.0, 1.0]])
    assert front(points, UP).tolist() == [False, True]


def test_three_axes():
    points = np.array([[1.0, 1, 1], [2, 0, 1], [1, 0, 1], [1, 1, 0]])
    assert front(points, [True] * 3).tolist() == [True, True, False, False]


def test_wrong_number_of_directions_is_refused():
    with pytest.raises(ValueError, match="points have 2 axes, directions are 3"):
        front(POINTS, [True] * 3)


def test_area_by_hand():
    # Steps of the front above (0, 0): 1 x 5, then 2 x 4, then 2 x 1.
    assert hypervolume(POINTS, UP, [0, 0]) == pytest.approx(5 + 8 + 2)
    # Above (2, 0): b reaches 1 x 4, d another 2 x 1.
    assert hypervolume(POINTS, UP, [2, 0]) == pytest.approx(4 + 2)
    assert hypervolume(POINTS, [False, False], [6, 6]) == pytest.approx(
        hypervolume(6 - POINTS, UP, [0, 0])
    )
    assert hypervolume(POINTS, UP, [9, 9]) == 0.0


def test_volume_equals_inclusion_and_exclusion():
    boxes = np.array([[3.0, 1, 2], [1, 3, 2], [2, 2, 1]])
    union = 0.0
    for chosen in range(1, 8):
        part = boxes[[bool(chosen >> i & 1) for i in range(3)]]
        union += (-1) ** (len(part) + 1) * part.min(0).prod()
    assert hypervolume(boxes, [True] * 3, [0, 0, 0]) == pytest.approx(union)


def test_volume_equals_counting_cells():
    rng = np.random.default_rng(0)
    points = rng.integers(0, 12, (9, 3)).astype(float)
    grid = np.stack(np.meshgrid(*[np.arange(12) + 0.5] * 3), -1).reshape(-1, 3)
    cells = (grid[:, None, :] < points[None]).all(-1).any(1).sum()
    assert hypervolume(points, [True] * 3, [0, 0, 0]) == pytest.approx(cells)


def test_knee_is_the_corner_of_the_front():
    corner = np.array([[0.0, 1.0], [0.9, 0.9], [1.0, 0.0], [0.2, 0.95]])
    assert knee(corner, UP) == 1
    assert knee(corner * [1, -1], [True, False]) == 1
    assert knee(np.array([[0.0, 1.0], [1.0, 0.0]]), UP) is None
    assert knee(np.array([[0.0, 1.0], [0.1, 0.1], [1.0, 0.0]]), UP) is None


def test_membership_is_the_share_of_draws():
    draws = np.array([[[1.0, 1.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])
    assert membership(draws, UP).tolist() == [1.0, 0.5]


def test_draws_resample_identities_for_all_runs_at_once():
    rows = []
    for person in range(5):
        for run, shift in (("a", 0.0), ("b", 0.5)):
            rows.append((run, f"p{person}", f"c{person}", float(person) + shift))
    frame = pd.DataFrame(rows, columns=["run", "identity", "case_id", "value"]).assign(
        sample=0, multiplicity=1, column="m@strict[x]", fingerprint="f"
    )
    draws = bootstrap_means(frame, ["a", "b"], [("m@strict[x]", "f")])
    # Both runs see the same identities in a draw, so b is ahead by exactly the shift each time.
    assert np.allclose(draws[:, 1, 0] - draws[:, 0, 0], 0.5)
    # The mean of five values 0..4 has standard deviation sqrt(2) and error sqrt(2 / 5) = 0.632.
    assert draws[:, 0, 0].mean() == pytest.approx(2.0, abs=0.06)
    assert draws[:, 0, 0].std() == pytest.approx(math.sqrt(2 / 5), abs=0.04)
