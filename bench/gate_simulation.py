"""How often a gate would cry wolf or miss a drop, at a given suite size (pure).

Changes between two runs are simulated as `drop + person + sample`: a part that all samples of an
identity share and a part of its own. Their spreads come from two real runs that should not differ
(the same method with other seeds), or from a baseline alone: two independent runs of a method
whose values spread like the baseline's would differ by sqrt(2) times that, which is the most that
chance alone can do.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from idbench.baseline import ScoredRun, require_pairs
from idbench.gate_rules import Rule
from idbench.gates import Outcome
from idbench.intervals import Floats

MOST_FALSE_ALARMS = 0.01
LEAST_POWER = 0.90


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise:
    """Standard deviations of the change between two runs that do not differ in truth."""

    person: float
    sample: float
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Simulated:
    """Shares of outcomes for a rule: with no change, at the allowed drop, at the effect."""

    rule: Rule
    noise: Noise
    identities: int
    per_identity: int
    effect: float
    unchanged: dict[Outcome, float]
    at_limit: dict[Outcome, float]
    at_effect: dict[Outcome, float]

    @property
    def false_alarms(self) -> float:
        """The larger share of regressions called where there is none: unchanged or at the limit."""
        return max(self.unchanged["regression"], self.at_limit["regression"])

    @property
    def power(self) -> float:
        """Share of regressions called at the declared effect."""
        return self.at_effect["regression"]

    @property
    def good(self) -> bool:
        """At most 1 % false alarms with no change, at least 90 % power at the effect."""
        return self.unchanged["regression"] <= MOST_FALSE_ALARMS and self.power >= LEAST_POWER


def noise_of_pair(one: ScoredRun, other: ScoredRun, rule: Rule) -> Noise:
    """Spreads of the change between two runs of a method, by the analysis of variance.

    Raises:
        BaselineError: If the runs are not of the same suite and size.
        ValueError: If fewer than two identities have pairs.
    """
    seedless = [run.facts.pairing() | {"seed policy": ""} for run in (one, other)]
    if seedless[0] != seedless[1]:
        require_pairs(one, other)
    first, second = (_values(run.frame, rule) for run in (one, other))
    merged = first.merge(second, on=["case_id", "sample", "identity"]).dropna()
    changes = (merged["value_x"] - merged["value_y"]).to_numpy(np.float64)
    person, sample = _spreads(changes, merged["identity"].tolist(), rule)
    return Noise(person=person, sample=sample, source=f"{one.facts.label} twice")


def noise_of_baseline(baseline: ScoredRun, rule: Rule) -> Noise:
    """Upper bound of the spreads from one run: as if the second were drawn independently.

    What identities share is taken to stay: a person who is hard to preserve is so in both runs.

    Raises:
        ValueError: If fewer than two identities have values.
    """
    values = _values(baseline.frame, rule).dropna()
    numbers = values["value"].to_numpy(np.float64)
    _, sample = _spreads(numbers, values["identity"].tolist(), rule)
    return Noise(person=0.0, sample=math.sqrt(2) * sample, source="the spread within identities")


def simulate(
    rule: Rule,
    noise: Noise,
    *,
    identities: int,
    per_identity: int,
    effect: float,
    repeats: int = 4000,
    seed: int = 0,
) -> Simulated:
    """Applies a rule to simulated pairs of runs.

    Args:
        rule: The rule; its demand on coverage plays no part.
        noise: Spread of the change between runs that do not differ.
        identities: Number of identities of the suite.
        per_identity: Samples per identity.
        effect: True drop at which the gate should call a regression.
        repeats: Simulated pairs of runs; at 4,000 a share of 1 % is known to 0.16 points.
        seed: Seed of the random numbers.
    """
    spread = math.sqrt(noise.person**2 + noise.sample**2 / per_identity)
    random = np.random.default_rng(seed)
    means = random.normal(0.0, 1.0, (repeats, identities)) * spread
    centre = means.mean(axis=1)
    error = means.std(axis=1, ddof=1) / math.sqrt(identities)
    student = stats.t(identities - 1)
    fail, accept = student.ppf(rule.fail_confidence) * error, student.ppf(rule.confidence) * error

    def outcomes(drop: float) -> dict[Outcome, float]:
        if identities < rule.min_identities:
            return {"pass": 0.0, "regression": 0.0, "inconclusive": 1.0}
        failed: NDArray[np.bool_] = drop + centre - fail > rule.max_drop
        passed = ~failed & (drop + centre + accept <= rule.max_drop)
        shares = float(passed.mean()), float(failed.mean())
        return {"pass": shares[0], "regression": shares[1], "inconclusive": 1.0 - sum(shares)}

    return Simulated(
        rule=rule,
        noise=noise,
        identities=identities,
        per_identity=per_identity,
        effect=effect,
        unchanged=outcomes(0.0),
        at_limit=outcomes(rule.max_drop),
        at_effect=outcomes(effect),
    )


def _values(frame: pd.DataFrame, rule: Rule) -> pd.DataFrame:
    chosen = frame[
        (frame["column"] == rule.column.name) & (frame["fingerprint"] == rule.column.fingerprint)
    ]
    return chosen[["case_id", "sample", "identity", "value"]]


def _spreads(values: Floats, identities: Sequence[str], rule: Rule) -> tuple[float, float]:
    """Standard deviations between and within identities, unbiased for equal group sizes."""
    _, codes = np.unique(np.asarray(identities, dtype=str), return_inverse=True)
    sizes = np.bincount(codes) if len(codes) else np.zeros(0)
    groups, count = len(sizes), len(values)
    if groups < 2:
        raise ValueError(
            f"{rule.column.name}: {groups} identities have values; a simulation needs two or more"
        )
    means = np.bincount(codes, values) / sizes
    within = float(((values - means[codes]) ** 2).sum()) / max(count - groups, 1)
    between = float((sizes * (means - values.mean()) ** 2).sum()) / (groups - 1)
    typical = (count - float((sizes**2).sum()) / count) / (groups - 1)
    return math.sqrt(max(between - within, 0.0) / typical), math.sqrt(within)
