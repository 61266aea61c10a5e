"""Search for the coefficients of a fusion on a validation set, and the front it uncovers (pure)."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from idbench.pareto import front

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]
Weights = tuple[float, ...]

SCAN = 11  # coefficients of the second of two variants: 0, 0.1, ..., 1
GOLDEN_STEPS = 4  # narrow the bracket of two tenths to less than 0.03
MAX_EVALUATIONS = 30  # for three variants or more
_PARTS = 10_000  # coefficients are multiples of 1 / _PARTS, so that a point is not made twice
_GOLDEN = (np.sqrt(5.0) - 1) / 2


@dataclass(frozen=True, slots=True)
class Point:
    """Coefficients, and what the fused model scored: NaN where a column has no value.

    All scores are turned so that larger is better. `coverage` is the smallest share of the samples
    that a score stands on, in [0, 1].
    """

    weights: Weights
    preservation: float
    editability: tuple[float, ...]
    coverage: float = 1.0


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Every point that was evaluated, in order; which are on the front; the best, if any."""

    points: tuple[Point, ...]
    on_front: tuple[bool, ...]
    best: int | None


Evaluate = Callable[[Weights], Point]


class Objective:
    """J(w) = mean z(editability) + kappa z(preservation), where preservation reaches a floor.

    Scores are standardised by the mean and deviation over the first points, so that J means the
    same throughout a search.

    Args:
        start: The first points.
        kappa: Weight of preservation.
        floor: Least preservation; points below it, or with a missing score, are never best.
        least_coverage: Points whose scores stand on fewer samples are never best: a model that
            loses faces would be judged by its easy ones.
    """

    def __init__(
        self, start: Sequence[Point], kappa: float, floor: float, least_coverage: float = 0.0
    ) -> None:
        """Fixes the scale."""
        table = np.array([self._row(point) for point in start])
        known = np.where(np.isfinite(table), table, np.nan)
        with np.errstate(all="ignore"):
            self.mean = np.nan_to_num(_nan_mean(known))
            spread = np.sqrt(_nan_mean((known - self.mean) ** 2))
        self.spread = np.where(np.isfinite(spread) & (spread > 0), spread, 1.0)
        self.kappa = kappa
        self.floor = floor
        self.least_coverage = least_coverage

    def __call__(self, point: Point) -> float:
        """J, or minus infinity for a point that cannot be best."""
        z = (np.array(self._row(point)) - self.mean) / self.spread
        if not np.isfinite(z).all() or point.preservation < self.floor:
            return -np.inf
        if point.coverage < self.least_coverage:
            return -np.inf
        return float(z[1:].mean() + self.kappa * z[0])

    @staticmethod
    def _row(point: Point) -> list[float]:
        return [point.preservation, *point.editability]


def _nan_mean(table: Floats) -> Floats:
    counts = np.isfinite(table).sum(axis=0)
    mean: Floats = np.where(counts > 0, np.nansum(table, axis=0) / np.maximum(counts, 1), np.nan)
    return mean


def search(
    variants: int,
    evaluate: Evaluate,
    *,
    kappa: float = 1.0,
    floor: float = -np.inf,
    least_coverage: float = 0.0,
    max_evaluations: int = MAX_EVALUATIONS,
) -> SearchResult:
    """Finds good coefficients for a fusion of `variants` files, which sum to one.

    Two variants: the whole range in tenths, then a golden-section refinement around the best. More:
    each alone and all equal, then Nelder-Mead on the simplex.

    Args:
        variants: How many, at least two.
        evaluate: Makes and scores the fusion with given coefficients.
        kappa: See `Objective`.
        floor: See `Objective`.
        least_coverage: See `Objective`.
        max_evaluations: For three variants or more.

    Raises:
        ValueError: If there are fewer than two variants.
    """
    if variants < 2:
        raise ValueError(f"a fusion needs at least two variants, got {variants}")
    seen: dict[Weights, Point] = {}

    def at(weights: Sequence[float]) -> Point:
        key = rounded(weights)
        if key not in seen:
            seen[key] = evaluate(key)
            log.info("coefficients %s: %s", key, seen[key])
        return seen[key]

    if variants == 2:
        start = [at((1 - share, share)) for share in np.linspace(0, 1, SCAN)]
    else:
        start = [at(row) for row in np.eye(variants).tolist()]
        start.append(at([1 / variants] * variants))
    objective = Objective(start, kappa, floor, least_coverage)
    if variants == 2:
        _golden_section(at, objective)
    else:
        _nelder_mead(at, objective, seen, max_evaluations)
    points = tuple(seen.values())
    values = [objective(point) for point in points]
    table = np.array([[point.preservation, *point.editability] for point in points])
    best = int(np.argmax(values)) if np.isfinite(values).any() else None
    return SearchResult(points, tuple(front(table, [True] * table.shape[1]).tolist()), best)


def _golden_section(at: Callable[[Sequence[float]], Point], objective: Objective) -> None:
    shares = np.linspace(0, 1, SCAN)
    centre = int(np.argmax([objective(at((1 - share, share))) for share in shares]))
    low, high = shares[max(centre - 1, 0)], shares[min(centre + 1, SCAN - 1)]
    for _ in range(GOLDEN_STEPS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if objective(at((1 - left, left))) >= objective(at((1 - right, right))):
            high = right
        else:
            low = left


def _nelder_mead(
    at: Callable[[Sequence[float]], Point],
    objective: Objective,
    seen: dict[Weights, Point],
    max_evaluations: int,
) -> None:
    ranked = sorted(seen, key=lambda weights: -objective(seen[weights]))
    count = len(ranked[0])

    def cost(free: Floats) -> float:
        weights = project([*free, 1 - free.sum()])
        if len(seen) >= max_evaluations and rounded(weights) not in seen:
            return np.inf
        value = objective(at(weights.tolist()))
        return -value if np.isfinite(value) else np.inf

    # the best `count` points are the first simplex, unless they lie in one hyperplane
    simplex = np.array(ranked[:count])[:, :-1]
    if np.linalg.matrix_rank(simplex[1:] - simplex[0]) < count - 1:
        simplex = np.eye(count)[:, :-1]
    minimize(
        cost,
        simplex[0],
        method="Nelder-Mead",
        options={
            "initial_simplex": simplex,
            "maxfev": 2 * max_evaluations,
            "xatol": 0.01,
            "fatol": 1e-3,
        },
    )


def rounded(weights: Sequence[float] | Floats) -> Weights:
    """Coefficients as multiples of 1 / 10,000 that still sum to one (largest remainders)."""
    exact = np.asarray(weights, dtype=np.float64) * _PARTS
    parts = np.floor(exact + 1e-6)
    missing = round(_PARTS - parts.sum())
    parts[np.argsort(parts - exact, kind="stable")[:missing]] += 1
    return tuple(float(part) / _PARTS for part in parts)


def project(weights: Sequence[float]) -> Floats:
    """The nearest point (Euclidean) whose coefficients are not negative and sum to one."""
    values = np.asarray(weights, dtype=np.float64)
    ordered = np.sort(values)[::-1]
    excess = (np.cumsum(ordered) - 1) / np.arange(1, len(values) + 1)
    last = np.nonzero(ordered - excess > 0)[0][-1]
    nearest: Floats = np.maximum(values - excess[last], 0)
    return nearest
