"""A run against a baseline under rules: pass, regression, or inconclusive (pure)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from idbench.baseline import ScoredRun, require_pairs, stored
from idbench.columns import differing_fields
from idbench.compare import cluster
from idbench.gate_rules import Rule
from idbench.intervals import Floats, ratio_se

Outcome = Literal["pass", "regression", "inconclusive"]
EXIT_CODES: dict[Outcome, int] = {"pass": 0, "regression": 1, "inconclusive": 2}


@dataclass(frozen=True, kw_only=True, slots=True)
class Drop:
    """Mean change for the worse over pairs, with one-sided bounds; NaN where there are too few."""

    mean: float
    fail_bound: float  # the drop is at least this, at the confidence that a regression needs
    pass_bound: float  # the drop is at most this, at the confidence of the rule
    identities: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleResult:
    """What a rule found. `reasons` say in words what decided; `pairs` and `total` are weighted."""

    rule: Rule
    outcome: Outcome
    reasons: tuple[str, ...]
    baseline_mean: float
    run_mean: float
    drop: Drop
    pairs: int
    total: int
    valid: int
    misses: int


@dataclass(frozen=True, kw_only=True, slots=True)
class GateResult:
    """All rules. The gate fails if one rule does, and passes only if all do."""

    label: str
    baseline: str
    suite: str
    results: tuple[RuleResult, ...]

    @property
    def outcome(self) -> Outcome:
        """The worst of the rules' outcomes: regression, then inconclusive, then pass."""
        found = {result.outcome for result in self.results}
        worst: Sequence[Outcome] = ("regression", "inconclusive", "pass")
        return next(outcome for outcome in worst if outcome in found)


def check_gate(run: ScoredRun, baseline: ScoredRun, rules: Sequence[Rule]) -> GateResult:
    """Applies every rule to the paired samples of a run and a baseline.

    Raises:
        BaselineError: If suite, seeds or size differ.
        LookupError: If the run lacks a column of the rules, or has it with another fingerprint.
    """
    require_pairs(run, baseline)
    return GateResult(
        label=run.facts.label,
        baseline=baseline.facts.label,
        suite=str(baseline.facts.suite["name"]),
        results=tuple(_check(run, baseline, rule) for rule in rules),
    )


def bound_drop(change: Floats, weight: Floats, identities: Sequence[str], rule: Rule) -> Drop:
    """Mean change for the worse and its bounds, from changes (run minus baseline) per pair.

    The bounds are Student's t on the cluster-robust standard error over identities.
    """
    worse = -change if rule.higher_is_better else change
    sums, weights = cluster(worse, weight, identities)
    units = len(sums)
    mean = math.fsum(sums) / math.fsum(weights) if units else math.nan
    if units < 2:
        return Drop(mean=mean, fail_bound=math.nan, pass_bound=math.nan, identities=units)
    se = ratio_se(sums, weights)
    student = stats.t(units - 1)
    return Drop(
        mean=mean,
        fail_bound=mean - float(student.ppf(rule.fail_confidence)) * se,
        pass_bound=mean + float(student.ppf(rule.confidence)) * se,
        identities=units,
    )


def decide(drop: Drop, rule: Rule) -> tuple[Outcome, str]:
    """Verdict on the drop alone, and why."""
    if drop.identities < rule.min_identities:
        return "inconclusive", (
            f"{drop.identities} identities with pairs, the rule needs {rule.min_identities}"
        )
    allowed = f"{rule.max_drop:g} allowed"
    if drop.fail_bound > rule.max_drop:
        bound = f"at least {drop.fail_bound:.4g} ({rule.fail_confidence:.4g} sure)"
        return "regression", f"the drop is {bound}, {allowed}"
    if drop.pass_bound <= rule.max_drop:
        bound = f"at most {drop.pass_bound:.4g} ({rule.confidence:.4g} sure)"
        return "pass", f"the drop is {bound}, {allowed}"
    return "inconclusive", (
        f"the drop is between {drop.fail_bound:.4g} and {drop.pass_bound:.4g}, {allowed}: "
        "too few samples to tell"
    )


def _check(run: ScoredRun, baseline: ScoredRun, rule: Rule) -> RuleResult:
    _require_column(run, rule)
    ours, theirs = (_column(side.frame, rule) for side in (run, baseline))
    merged = theirs.merge(
        ours[["case_id", "sample", "value"]],
        on=["case_id", "sample"],
        how="left",
        suffixes=("_baseline", ""),
        indicator=True,
    )
    weight = merged["multiplicity"].to_numpy(np.float64)
    old = merged["value_baseline"].to_numpy(np.float64)
    # As the baseline keeps them, or equal runs would differ by what it rounds away.
    new = merged["value"].map(stored).to_numpy(np.float64)
    planned = (merged["_merge"] == "both").to_numpy()
    valid, pairs = np.isfinite(new), np.isfinite(new) & np.isfinite(old)
    drop = bound_drop(
        new[pairs] - old[pairs], weight[pairs], merged["identity"][pairs].tolist(), rule
    )
    outcome, reason = decide(drop, rule)
    reasons = [reason]
    misses = int(weight[planned & ~valid].sum())
    absent = int(weight[~planned].sum())
    coverage = float(weight[valid].sum() / max(weight[planned].sum(), 1.0))
    if absent:
        reasons.append(f"{absent} samples of the baseline are not in the run")
        outcome = "inconclusive" if outcome == "pass" else outcome
    if rule.min_coverage is not None and coverage < rule.min_coverage:
        outcome = "regression"
        reasons.append(f"coverage {coverage:.3f}, at least {rule.min_coverage:g} required")
    if rule.max_misses is not None and misses > rule.max_misses:
        outcome = "regression"
        reasons.append(f"{misses} samples without a value, {rule.max_misses} allowed")
    return RuleResult(
        rule=rule,
        outcome=outcome,
        reasons=tuple(reasons),
        baseline_mean=_mean(old[pairs], weight[pairs]),
        run_mean=_mean(new[pairs], weight[pairs]),
        drop=drop,
        pairs=int(weight[pairs].sum()),
        total=int(weight.sum()),
        valid=int(weight[valid].sum()),
        misses=misses,
    )


def _require_column(run: ScoredRun, rule: Rule) -> None:
    same = [column for column in run.columns if column.name == rule.column.name]
    if any(column.fingerprint == rule.column.fingerprint for column in same):
        return
    if not same:
        raise LookupError(
            f"{run.facts.label} has no scores of {rule.column.name}; score it with that metric"
        )
    fields = "; ".join(differing_fields(same[0], rule.column)) or "no recorded field"
    raise LookupError(
        f"{rule.column.name} of {run.facts.label} is not the column of the baseline: {fields}. "
        "Score with the same versions and weights, or save a new baseline"
    )


def _column(frame: pd.DataFrame, rule: Rule) -> pd.DataFrame:
    chosen = frame[
        (frame["column"] == rule.column.name) & (frame["fingerprint"] == rule.column.fingerprint)
    ]
    return chosen.sort_values(["case_id", "sample"], kind="stable")


def _mean(values: Floats, weights: Floats) -> float:
    return math.fsum(values * weights) / math.fsum(weights) if len(values) else math.nan
