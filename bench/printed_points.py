"""Rows of a printed table as points of a front: alone, or behind measured runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from idbench.columns import ColumnName
from idbench.fronts import Front, FrontAxis, FrontRun
from idbench.paper_tables import PublishedColumn, PublishedTable
from idbench.pareto import front, knee
from idbench.records import Column


@dataclass(frozen=True, slots=True)
class PrintedPoint:
    """A row of a printed table; one mean per axis."""

    label: str
    means: tuple[float, ...]


def printed_points(table: PublishedTable, axes: Sequence[FrontAxis]) -> list[PrintedPoint]:
    """The rows that have a number on every axis; an axis is matched by metric, variant, protocol.

    Raises:
        LookupError: If the table has no column for an axis.
    """
    names = [_column_of(table, axis).name for axis in axes]
    return _points(table, names)


def printed_note(table: PublishedTable, axes: Sequence[FrontAxis]) -> str:
    """What the printed points are, for the foot of a picture."""
    names = [_column_of(table, axis).metric for axis in axes]
    return f"Crosses: {table.id}, as printed, {' against '.join(filter(None, names))}."


def printed_front(table: PublishedTable, requests: Sequence[str]) -> Front:
    """The front of a printed table alone; `requests` are names of its columns or their metrics.

    Raises:
        LookupError: If the table has no such column, or it has no better direction.
    """
    columns = [_requested(table, request) for request in requests]
    axes = tuple(
        FrontAxis(column=_as_column(table, column), higher_is_better=column.better == "up")
        for column in columns
    )
    points = _points(table, [column.name for column in columns])
    higher = [axis.higher_is_better for axis in axes]
    means = np.array([point.means for point in points]).reshape(len(points), len(axes))
    members, bend = front(means, higher), knee(means, higher)
    return Front(
        suite=table.id.replace(":", "-"),
        axes=axes,
        runs=tuple(
            FrontRun(
                label=point.label,
                run="",
                means=point.means,
                margins=(None,) * len(axes),
                coverage=("",) * len(axes),
                on_front=bool(members[place]),
                probability=None,
                knee=place == bend,
            )
            for place, point in enumerate(points)
        ),
        missing=tuple(row for row in table.cells if row not in {p.label for p in points}),
        notes=(
            f"As printed in {table.id} (section {table.section}), without intervals or coverage.",
        ),
    )


def _points(table: PublishedTable, names: Sequence[str]) -> list[PrintedPoint]:
    numbers = [table.numbers(name) for name in names]
    return [
        PrintedPoint(row, tuple(of[row] for of in numbers))
        for row in table.cells
        if all(row in of for of in numbers)
    ]


def _column_of(table: PublishedTable, axis: FrontAxis) -> PublishedColumn:
    name = ColumnName.parse(axis.column.name)
    parsed = [(c, ColumnName.parse(c.metric)) for c in table.columns if c.metric]
    same = [(c, other) for c, other in parsed if other.metric == name.metric]
    # The same protocol if it is printed, else the same metric: the picture names both.
    for column, _ in sorted(same, key=lambda pair: pair[1].protocol != name.protocol):
        return column
    raise LookupError(
        f"{table.id} prints nothing for {axis.column.name}; it has "
        f"{', '.join(column.metric for column in table.columns if column.metric)}"
    )


def _requested(table: PublishedTable, request: str) -> PublishedColumn:
    wanted = request.partition(":")[0]
    for column in table.columns:
        metric = column.metric or ""
        if wanted in (column.name, metric, metric.partition("[")[0], metric.partition("@")[0]):
            if column.better is None:
                raise LookupError(f"{column.name} of {table.id} has no better direction")
            return column
    raise LookupError(f"{table.id} has no column {wanted!r}; known: {', '.join(table.names)}")


def _as_column(table: PublishedTable, column: PublishedColumn) -> Column:
    return Column(
        name=f"{column.name} of {table.id}",
        fingerprint=table.id,
        unit="",
        higher_is_better=column.better == "up",
        low=float("-inf"),
        high=float("inf"),
        axis="editability" if "div" in column.name or "diff" in column.name else "preservation",
        comparable_to_published=True,
        details="{}",
    )
