import math

import numpy as np
import pytest
from scipy import stats

from idbench.intervals import DRAWS, SEED, interval_at, mean_interval


def test_few_identities_get_students_t():
    # Three identities with means 1, 2, 3 and equal weight: mean 2, standard deviation 1,
    # standard error 1/sqrt(3), and t with 2 degrees of freedom is 4.302653 at 97.5 %.
    found = mean_interval([4.0, 8.0, 12.0], [4.0, 4.0, 4.0])
    assert found.mean == pytest.approx(2.0)
    assert found.se == pytest.approx(1 / math.sqrt(3))
    assert found.margin == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert (found.low, found.high) == pytest.approx((2 - found.margin, 2 + found.margin))


def test_one_identity_has_a_mean_and_no_interval():
    found = mean_interval([3.0], [2.0])
    assert found.mean == 1.5
    assert math.isnan(found.margin)
    assert math.isnan(found.se)
    assert found.units == 1


def test_no_identity_has_no_mean():
    found = mean_interval([], [])
    assert math.isnan(found.mean)
    assert found.units == 0


def test_identities_without_weight_do_not_count():
    assert mean_interval([1.0, 0.0, 3.0], [1.0, 0.0, 1.0]) == mean_interval([1.0, 3.0], [1.0, 1.0])


def test_equal_values_have_an_interval_of_no_width():
    found = mean_interval([0.1 * 3] * 9, [3.0] * 9)
    assert found.margin == 0.0


@pytest.mark.parametrize("units", [7, 40])
def test_margin_is_that_of_a_studentised_bootstrap_written_out(units):
    rng = np.random.default_rng(3)
    weights = rng.integers(2, 9, units).astype(float)
    sums = weights * rng.normal(0.5, 0.2, units)
    total = sums.sum() / weights.sum()

    def error(chosen):
        s, w = sums[chosen], weights[chosen]
        residuals = s - s.sum() / w.sum() * w
        return math.sqrt(units / (units - 1) * (residuals**2).sum()) / w.sum()

    counts = np.random.RandomState(SEED).multinomial(units, [1 / units] * units, size=DRAWS)
    ratios = []
    for row in counts:
        chosen = np.repeat(np.arange(units), row)
        ratios.append(abs(sums[chosen].sum() / weights[chosen].sum() - total) / error(chosen))
    quantile = sorted(ratios)[math.ceil(0.95 * DRAWS) - 1]
    expected = quantile * error(np.arange(units))
    assert mean_interval(sums, weights).margin == pytest.approx(expected, rel=1e-9)


def test_margin_is_bounded_where_most_identities_agree():
    # Without the bound, draws that miss the one different identity would make it infinite.
    found = mean_interval([1.0] * 6 + [0.0], [1.0] * 7)
    assert found.margin == pytest.approx(2 * stats.t.ppf(0.975, 6) * found.se)


def test_wider_level_gives_a_wider_interval():
    rng = np.random.default_rng(0)
    sums, weights = rng.normal(size=20), np.ones(20)
    margins = [interval_at(sums, weights, level).margin for level in (0.8, 0.95, 0.99)]
    assert margins == sorted(margins)
    assert margins[0] < margins[2]


def simulated_coverage(identities, prompts, spread, repeats):
    """Share of intervals that hold the true mean, 0, of samples correlated within identities."""
    rng = np.random.default_rng(identities)
    held = 0
    for _ in range(repeats):
        number = np.full(identities, prompts) if isinstance(prompts, int) else prompts(rng)
        person = rng.normal(0.0, math.sqrt(spread), identities)
        noise = rng.normal(0.0, 1.0, identities) * np.sqrt((1 - spread) * number)
        found = mean_interval(number * person + noise, number.astype(float))
        held += abs(found.mean) <= found.margin
    return held / repeats


@pytest.mark.parametrize(
    ("identities", "correlation"), [(4, 0.3), (7, 0.0), (7, 0.3), (7, 0.7), (15, 0.3), (50, 0.3)]
)
def test_coverage_of_the_interval_with_correlated_samples(identities, correlation):
    # Binomial noise of 2,500 repeats is 0.44 points, so 93 to 97 % holds for a true 95 %.
    assert 0.93 <= simulated_coverage(identities, 12, correlation, 2500) <= 0.97


def test_coverage_with_identities_of_unequal_size():
    assert 0.93 <= simulated_coverage(12, lambda rng: rng.integers(4, 20, 12), 0.3, 2500) <= 0.97


@pytest.mark.parametrize("identities", [20, 50])
def test_coverage_with_skewed_scores(identities):
    # Scores of mean 2 and skewness 1.4, correlated within identities; few people hold less.
    rng = np.random.default_rng(identities)
    held = 0
    for _ in range(2500):
        person = rng.gamma(2.0, 1.0, identities)
        sums = 12 * 0.6 * person + 0.4 * rng.gamma(2.0, 1.0, (identities, 12)).sum(axis=1)
        found = mean_interval(sums, np.full(identities, 12.0))
        held += found.low <= 2.0 <= found.high
    assert 0.93 <= held / 2500 <= 0.97


def test_ignoring_identities_would_undercover():
    # The reason for resampling identities: treating 15 x 12 correlated samples as independent
    # holds the true mean far less often than 95 %.
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(800):
        values = rng.normal(0, math.sqrt(0.3), (15, 1)) + rng.normal(0, math.sqrt(0.7), (15, 12))
        flat = values.ravel()
        found = mean_interval(flat, np.ones(len(flat)))
        held += abs(found.mean) <= found.margin
    assert held / 800 < 0.8
