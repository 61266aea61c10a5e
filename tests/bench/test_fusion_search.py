import numpy as np
import pytest

from idbench.fusion_search import Objective, Point, project, rounded, search


def two_sided(weights):
    """Preservation falls and editability rises with the share of the second variant."""
    share = weights[1]
    return Point(weights, 1 - share**2, (share,))


def test_two_variants_are_scanned_in_tenths_and_refined():
    result = search(2, two_sided)
    scanned = [point.weights[1] for point in result.points[:11]]
    assert scanned == pytest.approx(np.linspace(0, 1, 11))
    assert len(result.points) > 11
    assert all(sum(point.weights) == pytest.approx(1) for point in result.points)


def test_the_best_is_the_optimum_of_the_objective():
    # J(s) = (s - m_e) / d_e + (1 - s^2 - m_p) / d_p is stationary at s = d_p / (2 d_e)
    shares = np.linspace(0, 1, 11)
    expected = (1 - shares**2).std() / (2 * shares.std())
    result = search(2, two_sided)
    assert result.points[result.best].weights[1] == pytest.approx(expected, abs=0.03)


def test_the_floor_keeps_preservation():
    result = search(2, two_sided, floor=0.9, kappa=0.0)
    best = result.points[result.best]
    assert best.preservation >= 0.9
    # editability alone would go to 1; preservation 0.9 allows sqrt(0.1)
    assert best.weights[1] == pytest.approx(np.sqrt(0.1), abs=0.03)


def test_no_point_above_the_floor_is_no_best():
    assert search(2, two_sided, floor=2.0).best is None


def test_the_whole_front_is_returned():
    result = search(2, two_sided)
    assert all(result.on_front)

    def useless_second(weights):
        return Point(weights, weights[0], (weights[0],))

    worse = search(2, useless_second)
    assert sum(worse.on_front) == 1
    assert worse.points[worse.on_front.index(True)].weights == (1.0, 0.0)
    assert worse.best == worse.on_front.index(True)


def test_three_variants_start_alone_and_equal_and_stay_within_the_budget():
    target = np.array([0.2, 0.5, 0.3])

    def near_target(weights):
        distance = float(np.linalg.norm(np.array(weights) - target))
        return Point(weights, -distance, (-distance,))

    result = search(3, near_target, max_evaluations=30)
    starts = [point.weights for point in result.points[:4]]
    assert starts[:3] == [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]
    assert starts[3] == pytest.approx((1 / 3, 1 / 3, 1 / 3), abs=1e-4)
    assert len(result.points) <= 30
    best = np.array(result.points[result.best].weights)
    assert np.linalg.norm(best - target) < 0.1
    assert all(min(point.weights) >= 0 for point in result.points)


def test_a_point_is_evaluated_once():
    seen = []

    def count(weights):
        seen.append(weights)
        return two_sided(weights)

    search(2, count)
    assert len(seen) == len(set(seen))


def test_a_missing_score_is_never_best():
    def missing_in_the_middle(weights):
        if 0 < weights[1] < 1:
            return Point(weights, float("nan"), (9.0,))
        return two_sided(weights)

    result = search(2, missing_in_the_middle)
    assert result.points[result.best].weights[1] in (0.0, 1.0)
    assert sum(result.on_front) == 2


def test_a_score_on_too_few_samples_is_never_best():
    def loses_faces(weights):
        return Point(weights, 1.0, (weights[1],), coverage=1 - weights[1])

    result = search(2, loses_faces, least_coverage=0.75)
    assert result.points[result.best].weights[1] == pytest.approx(0.25, abs=0.03)
    assert result.points[result.best].coverage >= 0.75


def test_rounded_coefficients_sum_to_one():
    assert rounded([1 / 3, 1 / 3, 1 / 3]) == (0.3334, 0.3333, 0.3333)
    assert rounded([0.3, 0.7]) == (0.3, 0.7)
    assert rounded([1.0, 0.0, 0.0]) == (1.0, 0.0, 0.0)
    for seed in range(50):
        weights = rounded(project(np.random.default_rng(seed).normal(size=7)))
        assert sum(weights) == pytest.approx(1, abs=1e-9)
        assert min(weights) >= 0


def test_objective_by_hand():
    start = [Point((1.0, 0.0), 0.0, (1.0,)), Point((0.0, 1.0), 2.0, (3.0,))]
    objective = Objective(start, kappa=0.5, floor=-1.0)
    # means 1 and 2, deviations 1 and 1: z = (1, 2) at (2, 4)
    assert objective(Point((0.5, 0.5), 2.0, (4.0,))) == pytest.approx(2 + 0.5 * 1)


def test_projection_onto_the_simplex():
    np.testing.assert_allclose(project([0.2, 0.3, 0.5]), [0.2, 0.3, 0.5])
    np.testing.assert_allclose(project([1.2, -0.2]), [1.0, 0.0])
    np.testing.assert_allclose(project([0.6, 0.6]), [0.5, 0.5])


def test_one_variant_is_no_fusion():
    with pytest.raises(ValueError, match="at least two variants, got 1"):
        search(1, two_sided)
