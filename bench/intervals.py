"""Intervals for means of correlated samples: a studentised bootstrap over identities (pure).

Samples of one identity resemble one another, so identities are resampled, not samples. A plain
percentile bootstrap over few identities is far too narrow (simulated coverage of its 95 % interval:
87 % for seven identities). Here each draw is studentised with the cluster-robust standard error of
that draw, and the interval is symmetric: mean +- q * standard error, where q is the quantile of
|draw - mean| / standard error of the draw.

Simulated coverage of the 95 % interval, in percent, 12 correlated samples per identity (normal,
skewed: gamma(2), exponential, lognormal(1), and shares with a mean of 0.9; 3,000 repeats each):

    identities        4     7    12    20    50   100
    normal           95    97    95    95    95    96
    skewness 1.4     92    94    95    94    95    94
    skewness 2       89    93    92    95    94    95
    skewness 6       86    88    89    90    92    93
    share of 90 %    82    91    92    94    95    94

No interval from a few skewed means does better by much: an equal-tailed one gained two points at
most. The percentile bootstrap has 78 % for seven identities of skewness 6.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

DRAWS = 1000
LEVEL = 0.95
SEED = 20100901
# With fewer identities a bootstrap has too few distinct draws; Student's t is used instead.
FEWEST_FOR_BOOTSTRAP = 6
# Draws whose identities all agree have no spread, and would make q infinite.
LARGEST_Q_IN_T = 2.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A mean, its standard error, and half the width of its interval.

    `se` and `margin` are NaN for a single unit, which says nothing about the others; `mean` is NaN
    where there is no unit at all.
    """

    mean: float
    se: float
    margin: float
    units: int

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.margin

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.margin


@lru_cache(maxsize=4)
def draw_counts(units: int, draws: int = DRAWS, seed: int = SEED) -> Floats:
    """How often each unit occurs in each draw, shape (draws, units); the same on every machine."""
    # RandomState's stream is frozen; Generator's may change between versions of numpy.
    random = np.random.RandomState(seed)
    counts = random.multinomial(units, np.full(units, 1 / units), size=draws).astype(np.float64)
    counts.setflags(write=False)
    return counts


def weighted_sum(counts: Floats, values: Floats) -> Floats:
    """Sum over units of each draw, in an order of additions that no BLAS or thread changes."""
    total: Floats = np.einsum("du,u->d", counts, values, optimize=False)
    return total


def ratio_se(sums: Floats, weights: Floats) -> float:
    """Cluster-robust standard error of sum(sums) / sum(weights) over at least two units."""
    units = len(sums)
    total = math.fsum(weights)
    residuals = sums - math.fsum(sums) / total * weights
    return math.sqrt(math.fsum(residuals**2) * units / (units - 1)) / total


def studentised(sums: Floats, weights: Floats) -> Floats:
    """|mean of a draw - mean| / standard error of the draw, for every draw, in rising order."""
    units = len(sums)
    counts = draw_counts(units)
    drawn_weight = weighted_sum(counts, weights)
    means = weighted_sum(counts, sums) / drawn_weight
    squares = (
        weighted_sum(counts, sums**2)
        - 2 * means * weighted_sum(counts, sums * weights)
        + means**2 * weighted_sum(counts, weights**2)
    )
    spreads = np.sqrt(np.maximum(squares, 0.0) * units / (units - 1)) / drawn_weight
    distances = np.abs(means - math.fsum(sums) / math.fsum(weights))
    scale = ratio_se(sums, weights)
    # Cancellation leaves a residue where the spread is nil; it is no standard error.
    flat = spreads <= 1e-7 * scale
    ratios = np.divide(distances, spreads, out=np.full(len(means), np.inf), where=~flat)
    ratios[distances <= 1e-9 * scale] = 0.0
    return np.sort(ratios)


def critical_value(sums: Floats, weights: Floats, level: float = LEVEL) -> float:
    """The q of mean +- q * standard error, at the two-sided `level`."""
    units = len(sums)
    student = float(stats.t.ppf((1 + level) / 2, units - 1))
    if units < FEWEST_FOR_BOOTSTRAP:
        return student
    quantile = float(np.quantile(studentised(sums, weights), level, method="inverted_cdf"))
    return min(quantile, LARGEST_Q_IN_T * student)


def p_value(sums: Sequence[float] | Floats, weights: Sequence[float] | Floats) -> float:
    """Two-sided p that the mean is zero: one minus the level at which its interval reaches zero.

    At least 1 / (`DRAWS` + 1) where the interval is a bootstrap, 1 for one unit or none.
    """
    found = mean_interval(sums, weights)
    if found.units < 2:
        return 1.0
    if found.se == 0.0:
        return 1.0 if found.mean == 0.0 else 1 / (DRAWS + 1)
    ratio = abs(found.mean) / found.se
    student = stats.t(found.units - 1)
    if found.units < FEWEST_FOR_BOOTSTRAP:
        return float(2 * student.sf(ratio))
    weight = np.asarray(weights, dtype=np.float64)
    kept = weight > 0
    ratios = studentised(np.asarray(sums, dtype=np.float64)[kept], weight[kept])
    beyond = len(ratios) - int(np.searchsorted(ratios, ratio, side="left"))
    return min((beyond + 1) / (len(ratios) + 1), float(2 * student.sf(ratio / LARGEST_Q_IN_T)))


def mean_interval(sums: Sequence[float] | Floats, weights: Sequence[float] | Floats) -> Interval:
    """Interval of a weighted mean from the sum and the weight of each unit.

    Args:
        sums: Weighted sum of the values of each unit (identity), in a fixed order.
        weights: Sum of the weights of each unit; units of weight 0 are left out.
    """
    return interval_at(sums, weights, LEVEL)


def interval_at(
    sums: Sequence[float] | Floats, weights: Sequence[float] | Floats, level: float
) -> Interval:
    """As `mean_interval`, at the two-sided `level` in (0, 1)."""
    weight = np.asarray(weights, dtype=np.float64)
    kept = weight > 0
    weight, value = weight[kept], np.asarray(sums, dtype=np.float64)[kept]
    units = len(weight)
    if units == 0:
        return Interval(mean=math.nan, se=math.nan, margin=math.nan, units=0)
    mean = math.fsum(value) / math.fsum(weight)
    if units == 1:
        return Interval(mean=mean, se=math.nan, margin=math.nan, units=1)
    se = ratio_se(value, weight)
    if se <= 1e-12 * max(1.0, abs(mean)):  # equal values, up to rounding
        return Interval(mean=mean, se=0.0, margin=0.0, units=units)
    return Interval(mean=mean, se=se, margin=critical_value(value, weight, level) * se, units=units)
