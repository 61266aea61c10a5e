"""The front of a suite: runs as points on chosen columns, with intervals and membership."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from idbench import escape
from idbench.aggregate import aggregate
from idbench.columns import ColumnName, candidates, differing_fields, match_column
from idbench.curves import Step, in_order
from idbench.intervals import Floats
from idbench.pareto import bootstrap_means, front, hypervolume, knee, membership
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
    step: Step | None = None
    knee: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Volume:
    """What the front dominates down to `reference`: area in two axes, volume in three.

    `low` and `high` hold 95 % of its values when identities are resampled; None for one identity.
    """

    value: float
    low: float | None
    high: float | None
    reference: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Front:
    """All runs of a suite that have a value on every axis; `missing` names the others.

    Runs of a curve stand in the order of their parameter, then the others by label.
    """

    suite: str
    axes: tuple[FrontAxis, ...]
    runs: tuple[FrontRun, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    volume: Volume | None = None


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


def find_fronts(
    frame: pd.DataFrame,
    axes: Sequence[FrontAxis],
    steps: Mapping[str, Step] | None = None,
    reference: Sequence[float] | None = None,
    sets: pd.DataFrame | None = None,
) -> list[Front]:
    """One front per suite of a score frame, sorted by suite.

    Args:
        frame: Scores (`SCORE_FRAME`).
        axes: Two or three axes.
        steps: Run to its place on a curve, from `curves.find_curves`.
        reference: The point down to which the dominated volume is counted; by default the worst
            mean on each axis.
        sets: Values of whole runs (`AGGREGATE_FRAME`), such as FID. They have no samples to
            resample: a draw leaves them as they are.
    """
    wanted = _on_axes(frame, axes)
    aggregates = aggregate(wanted)
    if sets is not None and len(whole := _on_axes(sets, axes)):
        aggregates = pd.concat([aggregates, whole], ignore_index=True) if len(wanted) else whole
    return [
        _front(
            str(suite),
            part,
            wanted[wanted["suite"] == suite],
            tuple(axes),
            steps or {},
            reference,
        )
        for suite, part in aggregates.groupby("suite", sort=True)
    ]


def _on_axes(frame: pd.DataFrame, axes: Sequence[FrontAxis]) -> pd.DataFrame:
    keys = [(axis.column.name, axis.column.fingerprint) for axis in axes]
    pairs = zip(frame["column"], frame["fingerprint"], strict=True)
    return frame[np.fromiter((pair in keys for pair in pairs), dtype=bool, count=len(frame))]


def _front(
    suite: str,
    aggregates: pd.DataFrame,
    frame: pd.DataFrame,
    axes: tuple[FrontAxis, ...],
    steps: Mapping[str, Step],
    reference: Sequence[float] | None,
) -> Front:
    cells = {
        (str(row["run"]), str(row["column"])): _Mean(
            value=float(row["mean"]),
            margin=None if math.isnan(row["margin"]) else float(row["margin"]),
            coverage=f"{row['n']}/{row['total']}",
        )
        for row in aggregates[aggregates["n"] > 0].to_dict("records")
    }
    pairs = set(zip(aggregates["run"], aggregates["label"], strict=True))
    labels = dict(sorted(pairs, key=lambda pair: (natural_key(pair[1]), pair[0])))
    complete, missing = [], []
    for run in in_order(list(labels), steps):
        row = [cells[key] for axis in axes if (key := (run, axis.column.name)) in cells]
        if len(row) == len(axes):
            complete.append((run, row))
        else:
            missing.append(labels[run])
    higher = [axis.higher_is_better for axis in axes]
    means = np.array([[cell.value for cell in row] for _, row in complete])
    means = means.reshape(len(complete), len(axes))
    members = front(means, higher)
    shares: list[float | None] = [None] * len(complete)
    drawn = None
    measured = set(frame["column"])
    whole = [place for place, axis in enumerate(axes) if axis.column.name not in measured]
    if complete and frame["identity"].nunique() > 1:
        keys = [(axis.column.name, axis.column.fingerprint) for axis in axes]
        drawn = bootstrap_means(frame, [run for run, _ in complete], keys)
        drawn[:, :, whole] = means[:, whole]
        shares = [float(share) for share in membership(drawn, higher)]
    bend = knee(means, higher)
    runs = tuple(
        FrontRun(
            label=labels[run],
            run=run,
            means=tuple(float(value) for value in means[place]),
            margins=tuple(cell.margin for cell in row),
            coverage=tuple(cell.coverage for cell in row),
            on_front=bool(members[place]),
            probability=shares[place],
            step=steps.get(run),
            knee=place == bend,
        )
        for place, (run, row) in enumerate(complete)
    )
    return Front(
        suite=suite,
        axes=axes,
        runs=runs,
        missing=tuple(missing),
        notes=tuple(_notes(axes, runs, [axes[place] for place in whole] if complete else [])),
        volume=_volume(means, drawn, higher, reference),
    )


def _volume(
    means: Floats, drawn: Floats | None, higher: Sequence[bool], reference: Sequence[float] | None
) -> Volume | None:
    if not len(means):
        return None
    if reference is None:
        corner = np.where(higher, means.min(axis=0), means.max(axis=0)).tolist()
    else:
        corner = list(reference)
    if len(corner) != len(higher):
        raise ValueError(f"a reference has one number per axis, {len(higher)}, got {len(corner)}")
    low = high = None
    if drawn is not None:
        volumes = [hypervolume(points, higher, corner) for points in drawn]
        low, high = (float(end) for end in np.quantile(volumes, [0.025, 0.975]))
    return Volume(
        value=hypervolume(means, higher, corner), low=low, high=high, reference=tuple(corner)
    )


def _notes(
    axes: Sequence[FrontAxis], runs: Sequence[FrontRun], whole: Sequence[FrontAxis]
) -> list[str]:
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
    notes += [
        f"{axis.column.name} is one number per run: it has no interval, and resampling leaves it "
        "as it is."
        for axis in whole
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
    flags = ["on_front", "front_probability", "knee"]
    writer.writerow(["suite", "label", "run", "parameter", "value", *per_axis, *flags])
    for run in front.runs:
        cells: list[object] = []
        for axis, mean, margin, coverage in zip(
            front.axes, run.means, run.margins, run.coverage, strict=True
        ):
            low = "" if margin is None else max(axis.column.low, mean - margin)
            high = "" if margin is None else min(axis.column.high, mean + margin)
            cells += [mean, low, high, *coverage.split("/")]
        probability = "" if run.probability is None else run.probability
        step = [run.step.parameter, run.step.value] if run.step else ["", ""]
        text = [
            escape.spreadsheet(escape.plain(part)) for part in (front.suite, run.label, run.run)
        ]
        found = [str(run.on_front).lower(), probability, str(run.knee).lower()]
        writer.writerow([*text, *step, *cells, *found])
    return buffer.getvalue()
