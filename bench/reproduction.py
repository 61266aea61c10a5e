"""Printed numbers beside measured ones: difference, tolerance and verdict per cell (pure)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from scipy import stats

from idbench.columns import candidates
from idbench.paper_tables import Printed, PublishedColumn, PublishedTable, mean_ranks, noise_floor
from idbench.records import Column

Verdict = Literal["agrees", "in interval", "differs", "not comparable", "not measured"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """An aggregate that stands for a cell: mean times the scale of the column, and its coverage."""

    label: str
    column: Column
    mean: float | None
    margin: float | None
    n: int
    total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ReproducedCell:
    """A printed number and what was measured for it, if anything was.

    `tolerance` is the largest of the table's relative tolerance, half a unit of the last printed
    digit, and the noise floor of the metric between papers. `why` says why the two cannot be
    compared or nothing is measured.
    """

    row: str
    column: PublishedColumn
    printed: Printed
    measured: Measured | None
    tolerance: float
    why: str = ""

    @property
    def difference(self) -> float | None:
        """Measured minus printed."""
        if self.measured is None or self.measured.mean is None or self.printed.value is None:
            return None
        return self.measured.mean - self.printed.value

    @property
    def verdict(self) -> Verdict:
        """Whether the measured number counts as the printed one.

        "in interval": it does not, but its interval reaches into the tolerance.
        """
        difference = self.difference
        if difference is None:
            return "not measured"
        if self.why:
            return "not comparable"
        # What binary fractions add to decimals must not decide.
        beyond = abs(difference) - self.tolerance * (1 + 1e-9)
        if beyond <= 0:
            return "agrees"
        margin = self.measured.margin if self.measured else None
        return "in interval" if margin and beyond <= margin else "differs"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reproduction:
    """A table with its cells by row and column, ranks and what can be said of the order of rows.

    `rank_agreement` maps a column to Kendall's tau between printed and measured order, for columns
    with three comparable rows or more.
    """

    table: PublishedTable
    cells: tuple[ReproducedCell, ...]
    printed_ranks: Mapping[str, float]
    measured_ranks: Mapping[str, float]
    rank_agreement: Mapping[str, float]

    def row(self, name: str) -> list[ReproducedCell]:
        """The cells of a row, in the order of the columns."""
        return [cell for cell in self.cells if cell.row == name]

    def measured_numbers(self) -> dict[str, dict[str, float]]:
        """Column to row to measured number, where it may stand beside the printed ones."""
        found: dict[str, dict[str, float]] = {name: {} for name in self.table.names}
        for cell in self.cells:
            if not cell.why and cell.measured is not None and cell.measured.mean is not None:
                found[cell.column.name][cell.row] = cell.measured.mean
        return found


def reproduce(
    table: PublishedTable,
    aggregates: pd.DataFrame,
    columns: Sequence[Column],
    rows: Mapping[str, str],
) -> Reproduction:
    """Sets measured aggregates beside a printed table.

    Args:
        table: The printed table.
        aggregates: Aggregates (`AGGREGATE_FRAME`) of the runs.
        columns: What the columns of the aggregates mean.
        rows: Printed row to the name (folder) of the run that fills it.

    Raises:
        LookupError: If `rows` names a row or a run that there is not.
    """
    unknown = [row for row in rows if row not in table.cells]
    if unknown:
        raise LookupError(
            f"{table.id} has no row {unknown[0]!r}; known: {', '.join(map(repr, table.cells))}"
        )
    for run in rows.values():
        if run not in set(aggregates["run"]):
            raise LookupError(f"no run {run!r} among the runs given")
    floor = noise_floor()
    cells = [
        _cell(table, row, column, aggregates, columns, rows.get(row), floor)
        for row in table.cells
        for column in table.columns
    ]
    found = Reproduction(
        table=table,
        cells=tuple(cells),
        printed_ranks=mean_ranks(table),
        measured_ranks={},
        rank_agreement={},
    )
    numbers = {name: rows for name, rows in found.measured_numbers().items() if rows}
    ranked = table.ranked or tuple(column.name for column in table.columns if column.better)
    chosen = {name: numbers[name] for name in ranked if len(numbers.get(name, ())) > 1}
    return Reproduction(
        table=table,
        cells=tuple(cells),
        printed_ranks=found.printed_ranks,
        measured_ranks=mean_ranks(table, chosen) if chosen else {},
        rank_agreement=_agreement(table, numbers),
    )


def _agreement(
    table: PublishedTable, numbers: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    agreement = {}
    for name, measured in numbers.items():
        printed = table.numbers(name)
        rows = [row for row in measured if row in printed]
        if len(rows) >= 3:
            tau = stats.kendalltau([printed[row] for row in rows], [measured[row] for row in rows])
            if not math.isnan(tau.statistic):
                agreement[name] = float(tau.statistic)
    return agreement


def _cell(
    table: PublishedTable,
    row: str,
    column: PublishedColumn,
    aggregates: pd.DataFrame,
    columns: Sequence[Column],
    run: str | None,
    floor: Mapping[str, float],
) -> ReproducedCell:
    printed = table.cells[row][column.name]
    tolerance = max(
        table.tolerance * abs(printed.value or 0.0),
        printed.rounding,
        floor.get(column.metric or "", 0.0),
    )
    measured, why = _measured(table, column, aggregates, columns, run)
    return ReproducedCell(
        row=row, column=column, printed=printed, measured=measured, tolerance=tolerance, why=why
    )


def _measured(
    table: PublishedTable,
    column: PublishedColumn,
    aggregates: pd.DataFrame,
    columns: Sequence[Column],
    run: str | None,
) -> tuple[Measured | None, str]:
    if column.metric is None:
        return None, column.why
    if run is None:
        return None, "no run"
    part = aggregates[aggregates["run"] == run]
    # Without its network the name also finds what another network measured, to show it unjudged.
    name = column.metric.partition("[")[0]
    names = candidates(name, list(dict.fromkeys(part["column"])))
    known = {(c.name, c.fingerprint): c for c in columns}
    found = [
        (known[record["column"], record["fingerprint"]], record)
        for record in part[part["column"].isin(names)].to_dict("records")
    ]
    exact = [entry for entry in found if entry[0].name == column.metric]
    comparable = [entry for entry in exact or found if entry[0].comparable_to_published]
    if not found:
        return None, f"not scored with {column.metric}"
    if len(comparable) > 1:
        listed = ", ".join(f"{c.name} #{c.fingerprint[:6]}" for c, _ in comparable)
        return None, f"ambiguous: {listed}"
    chosen, record = (comparable or exact or found)[0]
    why = "" if comparable else f"{chosen.name} is not the paper's network"
    if record["suite"] != table.suite:
        why = f"measured on {record['suite']}, printed on {table.suite}"
    value, margin = float(record["mean"]), float(record["margin"])
    return (
        Measured(
            label=str(record["label"]),
            column=chosen,
            mean=None if math.isnan(value) else value * column.scale,
            margin=None if math.isnan(margin) else margin * column.scale,
            n=int(record["n"]),
            total=int(record["total"]),
        ),
        why,
    )
