"""Two runs on the same cases: paired differences, clustered by identity (pure)."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from idbench.columns import differing_fields
from idbench.intervals import Floats, Interval, mean_interval, p_value
from idbench.records import Column

SIGNIFICANT = 0.05
Verdict = Literal["better", "worse", "different", "no difference shown", "no pairs"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One sample in both runs; `difference` is second minus first."""

    case_id: str
    sample: int
    first: float
    second: float

    @property
    def difference(self) -> float:
        """Second minus first."""
        return self.second - self.first


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A column in both runs, over the samples where both have a value.

    `difference` is the mean of second minus first with its interval; `adjusted_p` is Holm's over
    the columns compared. `pairs` and `total` are weighted by multiplicity. `only_first` and
    `only_second` count samples that have a value in one run alone: where they differ, so does what
    the runs are missing, and the paired difference does not see it.
    """

    column: Column
    tag: str
    first_mean: float
    second_mean: float
    difference: Interval
    p: float
    adjusted_p: float
    pairs: int
    total: int
    only_first: int
    only_second: int
    changes: tuple[Change, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """What may be said of the second run at a family-wise error of 5 %."""
        if self.pairs == 0:
            return "no pairs"
        if self.adjusted_p >= SIGNIFICANT:
            return "no difference shown"
        better = self.column.higher_is_better
        if better is None:
            return "different"
        return "better" if (self.difference.mean > 0) == better else "worse"


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """All columns of two runs of one suite; `by_tag` repeats them within each value of each tag."""

    suite: str
    first: str
    second: str
    differences: tuple[Difference, ...]
    by_tag: tuple[Difference, ...]
    notes: tuple[str, ...]


def compare(
    first: pd.DataFrame,
    second: pd.DataFrame,
    columns: Sequence[Column],
    *,
    tags: Sequence[str] | None = (),
    keep_changes: int = 5,
) -> Comparison:
    """Compares two runs of one suite, each given as its score frame.

    Args:
        first: Scores of the run that differences start from.
        second: Scores of the other run.
        columns: Which columns to compare; those without scores in both runs are left out.
        tags: Names of tags to break differences down by, None for all. Values of a tag that all
            samples have are left out.
        keep_changes: How many of the samples that changed most to keep per column.

    Raises:
        ValueError: If a frame holds more than one run or the suites differ.
        LookupError: If the runs share none of the columns.
    """
    suites = {_only(frame, "suite") for frame in (first, second)}
    if len(suites) != 1:
        raise ValueError(
            f"runs of different suites have no cases in common: {' and '.join(sorted(suites))}"
        )
    names = [_only(frame, "label") for frame in (first, second)]
    _only(first, "run"), _only(second, "run")
    shared, notes = _shared(first, second, columns)
    pairs = {column: _pairs(first, second, column) for column in shared}
    differences = [_difference(column, "", pairs[column], keep_changes) for column in shared]
    by_tag = [
        _difference(column, tag, part, 0)
        for column in shared
        for tag, part in _tagged(pairs[column], tags)
    ]
    return Comparison(
        suite=suites.pop(),
        first=names[0],
        second=names[1],
        differences=tuple(holm(differences)),
        by_tag=tuple(holm(by_tag)),
        notes=tuple(notes),
    )


def holm(differences: Sequence[Difference]) -> list[Difference]:
    """The differences with p adjusted by Holm's step-down method over those that have pairs."""
    tested = sorted(
        (place for place, each in enumerate(differences) if each.pairs),
        key=lambda place: differences[place].p,
    )
    adjusted = list(differences)
    running = 0.0
    for rank, place in enumerate(tested):
        running = max(running, min(1.0, (len(tested) - rank) * differences[place].p))
        adjusted[place] = replace(differences[place], adjusted_p=running)
    return adjusted


def cluster(values: Floats, weights: Floats, identities: Sequence[str]) -> tuple[Floats, Floats]:
    """Weighted sum and weight per identity, in order of the identities' names."""
    _, codes = np.unique(np.asarray(identities, dtype=str), return_inverse=True)
    return (
        np.bincount(codes, values * weights).astype(np.float64),
        np.bincount(codes, weights).astype(np.float64),
    )


def _only(frame: pd.DataFrame, field: str) -> str:
    found = frame[field].unique()
    if len(found) != 1:
        raise ValueError(
            f"a comparison takes one run on each side, got {len(found)} {field}s: "
            f"{', '.join(map(str, found)) or 'none'}"
        )
    return str(found[0])


def _shared(
    first: pd.DataFrame, second: pd.DataFrame, columns: Sequence[Column]
) -> tuple[list[Column], list[str]]:
    """Columns that both runs have with one fingerprint, and why others are left out."""
    ours, theirs = (
        set(zip(frame["column"], frame["fingerprint"], strict=True)) for frame in (first, second)
    )
    shared = [c for c in columns if (c.name, c.fingerprint) in ours & theirs]
    names = {column.name for column in shared}
    notes = []
    for name in dict.fromkeys(column.name for column in columns if column.name not in names):
        same = [column for column in columns if column.name == name]
        left = [column for column in same if (name, column.fingerprint) in ours]
        right = [column for column in same if (name, column.fingerprint) in theirs]
        if left and right:
            fields = "; ".join(differing_fields(left[0], right[0])) or "no recorded field"
            notes.append(f"{name} is not compared: its fingerprints differ in {fields}.")
        elif left or right:
            notes.append(
                f"{name} is not compared: only the {'first' if left else 'second'} has it."
            )
    if not shared:
        raise LookupError(
            "the runs share no column; score both with the same metrics. " + " ".join(notes)
        )
    return shared, notes


def _pairs(first: pd.DataFrame, second: pd.DataFrame, column: Column) -> pd.DataFrame:
    sides = []
    for frame in (first, second):
        chosen = frame[
            (frame["column"] == column.name) & (frame["fingerprint"] == column.fingerprint)
        ]
        sides.append(chosen)
    right = sides[1][["case_id", "sample", "value"]]
    keys = ["case_id", "sample"]
    merged = sides[0].merge(right, on=keys, how="inner", suffixes=("_first", "_second"))
    return merged.sort_values(keys, kind="stable").reset_index(drop=True)


def _tagged(pairs: pd.DataFrame, tags: Sequence[str] | None) -> list[tuple[str, pd.DataFrame]]:
    if tags is not None and not tags:
        return []
    parsed: list[dict[str, Any]] = [json.loads(text) for text in pairs["tags"]]
    values = sorted(
        {
            (name, str(value))
            for entry in parsed
            for name, found in entry.items()
            for value in found
            if tags is None or name in tags
        }
    )
    parts = [
        (f"{name}={value}", pairs[[value in map(str, entry.get(name, ())) for entry in parsed]])
        for name, value in values
    ]
    return [(tag, part) for tag, part in parts if len(part) < len(pairs)]


def _difference(column: Column, tag: str, pairs: pd.DataFrame, keep: int) -> Difference:
    one = pairs["value_first"].to_numpy(np.float64)
    two = pairs["value_second"].to_numpy(np.float64)
    weight = pairs["multiplicity"].to_numpy(np.float64)
    has_one, has_two = np.isfinite(one), np.isfinite(two)
    both = has_one & has_two
    change = two[both] - one[both]
    sums, weights = cluster(change, weight[both], pairs["identity"][both].tolist())
    total = float(weight[both].sum())
    changed = pairs[both].assign(change=np.abs(change))
    changed = changed.sort_values(["change", "case_id", "sample"], ascending=[False, True, True])
    return Difference(
        column=column,
        tag=tag,
        first_mean=float((one[both] * weight[both]).sum() / total) if total else math.nan,
        second_mean=float((two[both] * weight[both]).sum() / total) if total else math.nan,
        difference=mean_interval(sums, weights),
        p=p_value(sums, weights),
        adjusted_p=1.0,
        pairs=int(total),
        total=int(weight.sum()),
        only_first=int(weight[has_one & ~has_two].sum()),
        only_second=int(weight[~has_one & has_two].sum()),
        changes=tuple(
            Change(
                case_id=str(row["case_id"]),
                sample=int(row["sample"]),
                first=float(row["value_first"]),
                second=float(row["value_second"]),
            )
            for row in changed.head(keep).to_dict("records")
            if row["change"] > 0
        ),
    )
