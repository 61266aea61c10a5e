"""Aggregates as tables: the grid that every style prints (what is best, what is missing, notes)."""

import math
import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import pandas as pd

from idbench.aggregate import reason_counts
from idbench.columns import ColumnName, differing_fields
from idbench.records import Column

Style = Literal["terminal", "markdown", "csv", "latex", "json"]
Mark = Literal["", "best", "second"]

MISSING = "–"  # noqa: RUF001 (an en dash is what a table prints for no value)
COVERAGE_LEGEND = "n/N: samples with a value / samples planned, for the numbers to the right of it."


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One aggregate as printed. `mean` is None without a value, `margin` without an interval."""

    mean: float | None
    margin: float | None
    low: float | None
    high: float | None
    n: int
    total: int
    identities: int
    reasons: dict[str, int]
    mark: Mark = ""

    @property
    def coverage(self) -> str:
        """Values / planned samples."""
        return f"{self.n}/{self.total}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """A column of a table. `tag` tells apart two columns of one name by their fingerprints."""

    column: Column
    tag: str = ""
    decimals: int = 3

    @property
    def name(self) -> str:
        """Name of the column, with the tag if there is one."""
        return f"{self.column.name}{self.tag}"

    @property
    def arrow(self) -> str:
        """Which way is better, empty where that is a matter of use."""
        return {True: "↑", False: "↓", None: ""}[self.column.higher_is_better]

    def number(self, value: float) -> str:
        """A value with the decimals of the column, without a minus before zero."""
        text = f"{value:.{self.decimals}f}"
        return text.lstrip("-") if not any(digit in text for digit in "123456789") else text


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A run in a table; `cells` has one entry per header, None where it was not measured."""

    label: str
    run: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """The table of one suite: what every style prints. `notes` stand below it, one per line."""

    suite: str
    headers: tuple[Header, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    @property
    def coverage(self) -> str | None:
        """The coverage of every number, where all agree."""
        found = {cell.coverage for row in self.rows for cell in row.cells if cell is not None}
        return found.pop() if len(found) == 1 else None

    def spans(self) -> list["Span"]:
        """Neighbouring columns between which no row changes its coverage, from left to right."""
        spans: list[Span] = []
        for index in range(len(self.headers)):
            column = [row.cells[index] for row in self.rows]
            if spans and spans[-1].fits(column):
                spans[-1].add(index, column)
            else:
                shared = [None if cell is None else cell.coverage for cell in column]
                spans.append(Span([index], shared))
        return spans


@dataclass(slots=True)
class Span:
    """Columns that share the coverage of each row, None where a row has no number in them."""

    columns: list[int]
    coverage: list[str | None]

    def fits(self, column: Sequence[Cell | None]) -> bool:
        """Whether a column has the coverage of the span in every row."""
        return all(
            cell is None or shared is None or cell.coverage == shared
            for cell, shared in zip(column, self.coverage, strict=True)
        )

    def add(self, index: int, column: Sequence[Cell | None]) -> None:
        """Takes in a column that fits."""
        self.columns.append(index)
        self.coverage = [
            shared if cell is None else cell.coverage
            for cell, shared in zip(column, self.coverage, strict=True)
        ]


def render(
    aggregates: pd.DataFrame,
    columns: Sequence[Column],
    *,
    style: Style,
    width: int = 80,
    sort: str | None = None,
) -> str:
    """Prints aggregates (`AGGREGATE_FRAME`) as tables, one per suite.

    The same aggregates give the same bytes, whatever the order of their rows. Columns keep the
    order of `columns`; those of one name with different fingerprints stand side by side, with a
    note on what differs. Every number stands with its interval and its coverage n/N.

    Args:
        aggregates: What `idbench.aggregate.aggregate` returned.
        columns: Which columns to print, in order.
        style: Format of the output; csv and json hold one record per number.
        width: Widest line of the terminal style.
        sort: Name of the column by which rows are sorted, best first; the first by default. Rows
            are sorted by label where that column has no better direction, or `sort` is "label".

    Raises:
        LookupError: If `style` is unknown or `sort` is no printed column.
    """
    from idbench import table_styles, table_terminal

    styles = {
        "terminal": lambda grids: table_terminal.terminal(grids, width),
        "markdown": table_styles.markdown,
        "csv": table_styles.csv,
        "latex": table_styles.latex,
        "json": table_styles.json,
    }
    if style not in styles:
        raise LookupError(f"unknown table style {style!r}; known: {', '.join(styles)}")
    return styles[style](make_grids(aggregates, columns, sort=sort))


def make_grids(
    aggregates: pd.DataFrame, columns: Sequence[Column], *, sort: str | None = None
) -> list[Grid]:
    """The tables of the suites, sorted by name; see `render`."""
    known = {(column.name, column.fingerprint) for column in columns}
    printed = aggregates[
        [key in known for key in zip(aggregates["column"], aggregates["fingerprint"], strict=True)]
    ]
    return [
        _grid(str(suite), part, columns, sort)
        for suite, part in printed.groupby("suite", sort=True)
    ]


def _grid(suite: str, part: pd.DataFrame, columns: Sequence[Column], sort: str | None) -> Grid:
    present = set(zip(part["column"], part["fingerprint"], strict=True))
    used = [column for column in columns if (column.name, column.fingerprint) in present]
    headers = [
        replace(header, decimals=_decimals(part, header.column)) for header in _headers(used)
    ]
    place = {(header.column.name, header.column.fingerprint): i for i, header in enumerate(headers)}
    cells: dict[tuple[str, str], list[Cell | None]] = {}
    for record in part.to_dict("records"):
        key = (str(record["label"]), str(record["run"]))
        index = place[record["column"], record["fingerprint"]]
        cells.setdefault(key, [None] * len(headers))[index] = _cell(record, headers[index].column)
    labels = Counter(label for label, _ in cells)
    rows = [
        Row(label=label if labels[label] == 1 else f"{label} #{run}", run=run, cells=tuple(found))
        for (label, run), found in cells.items()
    ]
    rows = _sorted(rows, headers, sort)
    rows = _marked(rows, headers)
    return Grid(
        suite=suite,
        headers=tuple(headers),
        rows=tuple(rows),
        notes=tuple(_notes(headers, rows)),
    )


def _headers(columns: Sequence[Column]) -> list[Header]:
    """Headers in order, those of one name side by side and tagged where there are several."""
    names = list(dict.fromkeys(column.name for column in columns))
    headers = []
    for name in names:
        same = sorted(
            (column for column in columns if column.name == name), key=lambda c: c.fingerprint
        )
        length = 6
        while len({column.fingerprint[:length] for column in same}) < len(same):
            length += 2
        headers += [
            Header(column=column, tag=f" #{column.fingerprint[:length]}" if len(same) > 1 else "")
            for column in same
        ]
    return headers


def _decimals(part: pd.DataFrame, column: Column) -> int:
    """Three for columns of small values, else two; the range decides where the column has one."""
    if math.isfinite(column.low) and math.isfinite(column.high):
        return 3 if column.high - column.low <= 10 else 2
    means = part.loc[part["fingerprint"] == column.fingerprint, "mean"].abs()
    return 3 if not means.max() >= 10 else 2


def _cell(record: Mapping[Hashable, object], column: Column) -> Cell:
    def number(field: str) -> float | None:
        value = float(str(record[field]))
        return None if math.isnan(value) else value

    low, high = number("low"), number("high")
    return Cell(
        mean=number("mean"),
        margin=number("margin"),
        # The mean of values in [low, high] lies there too, so the interval may end there.
        low=None if low is None else max(low, column.low),
        high=None if high is None else min(high, column.high),
        n=int(str(record["n"])),
        total=int(str(record["total"])),
        identities=int(str(record["identities"])),
        reasons=reason_counts(str(record["reasons"])),
    )


def natural_key(text: str) -> tuple[tuple[int, float, str], ...]:
    """Sorts "blur(sigma=2)" before "blur(sigma=16)"."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    numbered = (
        (0, float(part), "") if index % 2 else (1, 0.0, part.casefold())
        for index, part in enumerate(parts)
    )
    return (*numbered, (2, 0.0, text))


def _sorted(rows: list[Row], headers: Sequence[Header], sort: str | None) -> list[Row]:
    names = [header.name for header in headers]
    if sort is not None and sort != "label" and sort not in names:
        raise LookupError(f"cannot sort by {sort!r}; printed columns: {', '.join(names)}")
    index = 0 if sort is None else names.index(sort) if sort != "label" else None
    direction = None if index is None else headers[index].column.higher_is_better

    def key(row: Row) -> tuple[object, ...]:
        by_label = (natural_key(row.label), row.run)
        if index is None or direction is None:
            return by_label
        cell = row.cells[index]
        if cell is None or cell.mean is None:
            return (1, 0.0, *by_label)
        return (0, -cell.mean if direction else cell.mean, *by_label)

    return sorted(rows, key=key)


def _marked(rows: Sequence[Row], headers: Sequence[Header]) -> list[Row]:
    """Marks the best and second best number of each column, as printed: equal numbers share it."""
    marked = [list(row.cells) for row in rows]
    for index, header in enumerate(headers):
        better = header.column.higher_is_better
        printed = {
            place: float(header.number(cell.mean))
            for place, row in enumerate(rows)
            if (cell := row.cells[index]) is not None and cell.mean is not None
        }
        if better is None or len(printed) < 2:
            continue
        ranked = sorted(set(printed.values()), reverse=better)
        marks: dict[float, Mark] = dict(zip(ranked, ("best", "second"), strict=False))
        for place, value in printed.items():
            cell = marked[place][index]
            if cell is not None and value in marks and len(ranked) > 1:
                marked[place][index] = replace(cell, mark=marks[value])
    return [replace(row, cells=tuple(marked[place])) for place, row in enumerate(rows)]


def _notes(headers: Sequence[Header], rows: Sequence[Row]) -> list[str]:
    notes = _interval_notes(rows)
    notes += _miss_notes(headers, rows)
    for first, second in pairwise(headers):
        if first.column.name == second.column.name:
            fields = differing_fields(first.column, second.column)
            notes.append(
                f"{first.name} and {second.name} are not one column: their fingerprints differ in "
                f"{'; '.join(fields) if fields else 'no recorded field'}."
            )
    notes += _chance_note(headers)
    notes += foreign_note([header.column for header in headers])
    return notes


def _chance_note(headers: Sequence[Header]) -> list[str]:
    chances = [
        f"{header.name} {header.number(header.column.chance)}"
        for header in headers
        if header.column.chance is not None
    ]
    return [f"The score of guessing: {', '.join(chances)}."] if chances else []


def foreign_note(columns: Sequence[Column]) -> list[str]:
    """A note on the columns that measure with another protocol or network than the papers."""
    names = [ColumnName.parse(c.name) for c in columns if not c.comparable_to_published]
    kinds = dict.fromkeys(f"@{name.protocol}[{name.backend}]" for name in names)
    if not kinds:
        return []
    return [
        f"Not comparable with published numbers, another protocol or network: {', '.join(kinds)}."
    ]


def _interval_notes(rows: Sequence[Row]) -> list[str]:
    cells = [cell for row in rows for cell in row.cells if cell is not None and cell.n]
    units = {cell.identities for cell in cells if cell.identities}
    notes = []
    if units:
        few, many = min(units), max(units)
        if many == 1:
            notes.append("No intervals: all samples are of one identity.")
        else:
            count = f"{few}" if few == many else f"{few} to {many}"
            notes.append(f"95 % intervals, resampling identities ({count}).")
            if few == 1:
                notes.append("A number without interval stands on one identity.")
    if any(cell.identities == 0 for cell in cells):
        notes.append("A number of a whole set, such as FID, has no interval.")
    return notes


def _miss_notes(headers: Sequence[Header], rows: Sequence[Row]) -> list[str]:
    """Why samples are missing, one note per row and set of columns with the same reasons."""
    notes = []
    for row in rows:
        groups: dict[tuple[str, int], list[str]] = {}
        for header, cell in zip(headers, row.cells, strict=True):
            if cell is not None and cell.reasons:
                why = ", ".join(f"{reason} {count}" for reason, count in cell.reasons.items())
                groups.setdefault((why, cell.total), []).append(header.name)
        measured = [
            header.name for header, cell in zip(headers, row.cells, strict=True) if cell is not None
        ]
        for (why, total), names in groups.items():
            others = [name for name in measured if name not in names]
            where = f" in {', '.join(names)}" if others else ""
            if others and len(others) < len(names):
                where = f" in all but {', '.join(others)}"
            notes.append(f"Missing, {row.label}{where}: {why} of {total}.")
    return notes
