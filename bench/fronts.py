"""The front of a suite: runs as points on chosen columns, with intervals and membership."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from idbench import escape
from idbench.aggregate import aggregate
from idbench.columns import ColumnName, candidates, differing_fields, match_column
from idbench.pareto import bootstrap_means, front, membership
from idbench.records import Column
from idbench.tables import foreign_note, natural_key


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontAxis:
    """A column as an axis, and which way is better there. `assumed`: the column does not say."""

    column: Column
    higher_is_better: bool
    assumed: bool = False

    @property
    def title(self) -> str:
        """What the axis shows, with the side of the trade-off and the unit."""
        unit = f", {self.column.unit}" if self.column.unit else ""
        return f"{self.column.axis}: {self.column.name}{unit}"


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontRun:
    """A run as a point; tuples have one entry per axis, `margins` None without an interval."""

    label: str
    run: str
    means: tuple[float, ...]
    margins: tuple[float | None, ...]
    coverage: tuple[str, ...]
    on_front: bool
    probability: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Front:
    """All runs of a suite that have a value on every axis, by label; `missing` names the others."""

    suite: str
    axes: tuple[FrontAxis, ...]
    runs: tuple[FrontRun, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Mean:
    value: float
    margin: float | None
    coverage: str


def choose_axis(request: str, columns: Sequence[Column]) -> FrontAxis:
    """The axis that `name`, `name:up` or `name:down` asks for; the name may be short.

    Where a column leaves open which way is better, up is assumed: the papers read more difference
    to the reference as more editability. Of two protocols of one metric, a name without protocol
    means `@strict`; the title of the axis says which it is.

    Raises:
        LookupError: If the name is unknown or ambiguous, or stands for two fingerprints.
    """
    name, colon, direction = request.rpartition(":")
    if not colon:
        name, direction = request, ""
    elif direction not in ("up", "down"):
        raise LookupError(f"direction of {name!r} must be up or down, got {direction!r}")
    chosen = _match(name, [column.name for column in columns])
    found = [column for column in columns if column.name == chosen]
    if len(found) > 1:
        fields = "; ".join(differing_fields(found[0], found[1])) or "no recorded field"
        raise LookupError(
            f"{chosen} has {len(found)} fingerprints in these runs, which differ in {fields}; "
            "an axis holds one: score the runs again or name runs of one fingerprint"
        )
    column = found[0]
    if direction:
        return FrontAxis(column=column, higher_is_better=direction == "up")
    assumed = column.higher_is_better is None
    return FrontAxis(
        column=column, higher_is_better=column.higher_is_better is not False, assumed=assumed
    )


def _match(name: str, available: Sequence[str]) -> str:
    found = [ColumnName.parse(each) for each in candidates(name, list(dict.fromkeys(available)))]
    if len({(each.metric, each.backend) for each in found}) == 1 and "@" not in name:
        for each in found:
            if each.protocol == "strict":
                return f"{each.metric}@{each.protocol}[{each.backend}]"
    return match_column(name, available)


def find_fronts(frame: pd.DataFrame, axes: Sequence[FrontAxis]) -> list[Front]:
    """One front per suite of a score frame, sorted by suite."""
    keys = [(axis.column.name, axis.column.fingerprint) for axis in axes]
    wanted = frame[[key in keys for key in zip(frame["column"], frame["fingerprint"], strict=True)]]
    aggregates = aggregate(wanted)
    return [
        _front(str(suite), part, wanted[wanted["suite"] == suite], tuple(axes))
        for suite, part in aggregates.groupby("suite", sort=True)
    ]


def _front(
    suite: str, aggregates: pd.DataFrame, frame: pd.DataFrame, axes: tuple[FrontAxis, ...]
) -> Front:
    cells = {
        (str(row["run"]), str(row["column"])): _Mean(
            value=float(row["mean"]),
            margin=None if math.isnan(row["margin"]) else float(row["margin"]),
            coverage=f"{row['n']}/{row['total']}",
        )
        for row in aggregates[aggregates["n"] > 0].to_dict("records")
    }
    labels = sorted(
        set(zip(aggregates["label"], aggregates["run"], strict=True)),
        key=lambda pair: (natural_key(pair[0]), pair[1]),
    )
    complete, missing = [], []
    for label, run in labels:
        row = [cells[key] for axis in axes if (key := (run, axis.column.name)) in cells]
        if len(row) == len(axes):
            complete.append((label, run, row))
        else:
            missing.append(label)
    higher = [axis.higher_is_better for axis in axes]
    means = np.array([[cell.value for cell in row] for _, _, row in complete])
    means = means.reshape(len(complete), len(axes))
    members = front(means, higher)
    shares: list[float | None] = [None] * len(complete)
    if complete and frame["identity"].nunique() > 1:
        keys = [(axis.column.name, axis.column.fingerprint) for axis in axes]
        drawn = bootstrap_means(frame, [run for _, run, _ in complete], keys)
        shares = [float(share) for share in membership(drawn, higher)]
    runs = tuple(
        FrontRun(
            label=label,
            run=run,
            means=tuple(float(value) for value in means[place]),
            margins=tuple(cell.margin for cell in row),
            coverage=tuple(cell.coverage for cell in row),
            on_front=bool(members[place]),
            probability=shares[place],
        )
        for place, (label, run, row) in enumerate(complete)
    )
    return Front(
        suite=suite, axes=axes, runs=runs, missing=tuple(missing), notes=tuple(_notes(axes, runs))
    )


def _notes(axes: Sequence[FrontAxis], runs: Sequence[FrontRun]) -> list[str]:
    notes = []
    counts = {run.coverage for run in runs}
    if len(counts) == 1 and len(set(next(iter(counts)))) == 1:
        notes.append(f"Every point stands on {next(iter(counts))[0]} samples.")
    elif counts:
        full = [
            run
            for run in runs
            if all(part.split("/")[0] == part.split("/")[1] for part in run.coverage)
        ]
        short = [
            f"{run.label} {' and '.join(dict.fromkeys(run.coverage))}"
            for run in runs
            if run not in full
        ]
        notes.append(f"Points stand on all their samples, except {', '.join(short)}.")
    notes += foreign_note([axis.column for axis in axes])
    notes += [
        f"{axis.column.name} has no better direction of its own; up is assumed."
        for axis in axes
        if axis.assumed
    ]
    return notes


def points_csv(front: Front) -> str:
    """The points as CSV: per axis mean, interval and coverage, then membership."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = [axis.column.name for axis in front.axes]
    per_axis = [
        f"{name} {part}" for name in names for part in ("mean", "low", "high", "n", "total")
    ]
    writer.writerow(["suite", "label", "run", *per_axis, "on_front", "front_probability"])
    for run in front.runs:
        cells: list[object] = []
        for axis, mean, margin, coverage in zip(
            front.axes, run.means, run.margins, run.coverage, strict=True
        ):
            low = "" if margin is None else max(axis.column.low, mean - margin)
            high = "" if margin is None else min(axis.column.high, mean + margin)
            cells += [mean, low, high, *coverage.split("/")]
        probability = "" if run.probability is None else run.probability
        text = [
            escape.spreadsheet(escape.plain(part)) for part in (front.suite, run.label, run.run)
        ]
        writer.writerow([*text, *cells, str(run.on_front).lower(), probability])
    return buffer.getvalue()
