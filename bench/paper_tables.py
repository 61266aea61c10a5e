"""The papers' tables as data: what was printed, what it measures, which way is better."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml

DATA = "idbench.published"


@dataclass(frozen=True, slots=True)
class Printed:
    """A cell as printed; `value` is None where it is empty or no number."""

    text: str
    value: float | None

    @property
    def decimals(self) -> int:
        """Decimals printed."""
        return len(self.text.partition(".")[2]) if self.value is not None else 0

    @property
    def rounding(self) -> float:
        """Half a unit of the last printed digit."""
        return 0.5 * 10.0**-self.decimals


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedColumn:
    """A column of a printed table.

    `metric` is the column of idbench that measures the same, in short form; None where nothing
    here does, and then `why` says so. `scale` multiplies a measured value. `chance` is the score of
    guessing.
    """

    name: str
    better: Literal["up", "down"] | None = None
    metric: str | None = None
    scale: float = 1.0
    chance: float | None = None
    why: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowSource:
    """The method here that can fill a row; `method` is None where none does.

    `note` says what the paper leaves open about the row.
    """

    method: str | None = None
    args: Mapping[str, Any]
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedTable:
    """A printed table. `cells` maps row name and column name to what was printed."""

    paper: str
    name: str
    title: str
    arxiv: str
    caption: str
    section: str
    page: int | None
    suite: str | None
    tolerance: float
    columns: tuple[PublishedColumn, ...]
    rows: Mapping[str, RowSource]
    cells: Mapping[str, Mapping[str, Printed]]
    ranked: tuple[str, ...]
    printed_rank: str | None
    anomalies: tuple[str, ...]

    @property
    def id(self) -> str:
        """Paper and table, such as editidv2:table1."""
        return f"{self.paper}:{self.name}"

    def column(self, name: str) -> PublishedColumn:
        """The column of this name.

        Raises:
            LookupError: If there is none; the message lists the columns.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise LookupError(f"{self.id} has no column {name!r}; known: {', '.join(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    def measurable(self) -> bool:
        """Whether some column can be measured here on a suite."""
        return self.suite is not None and any(column.metric for column in self.columns)

    def numbers(self, column: str) -> dict[str, float]:
        """Row to printed number, for the rows that have one."""
        self.column(column)
        return {
            row: value
            for row, cells in self.cells.items()
            if (value := cells[column].value) is not None
        }


@cache
def load_tables() -> dict[str, PublishedTable]:
    """Every table by id, in the order of the papers."""
    document = yaml.safe_load(files(DATA).joinpath("tables.yaml").read_text("utf-8"))
    tables = {}
    for paper, entry in document["papers"].items():
        for name, raw in entry["tables"].items():
            table = _table(paper, name, entry, raw)
            tables[table.id] = table
    return tables


def find_table(request: str) -> PublishedTable:
    """The table of an id; the paper alone is enough where it has one table.

    Raises:
        LookupError: If there is none; the message lists the known ones.
    """
    tables = load_tables()
    if request in tables:
        return tables[request]
    found = [table for table in tables.values() if table.paper == request]
    if len(found) == 1:
        return found[0]
    known = ", ".join(table.id for table in found) if found else ", ".join(tables)
    raise LookupError(f"unknown table {request!r}; known: {known}")


def ordinal_ranks(numbers: Mapping[str, float], *, higher: bool) -> dict[str, int]:
    """Rank of each row, 1 the best, no two alike.

    Of equal numbers the later row is the better, as in the mean rank that FlexIP prints.
    """
    turned = [(value if higher else -value, place) for place, value in enumerate(numbers.values())]
    order = sorted(range(len(turned)), key=lambda place: turned[place], reverse=True)
    rows = list(numbers)
    return {rows[place]: rank for rank, place in enumerate(order, start=1)}


def mean_ranks(
    table: PublishedTable, numbers: Mapping[str, Mapping[str, float]] | None = None
) -> dict[str, float]:
    """Mean of the ordinal ranks over the ranked columns, for rows that have all of them.

    Args:
        table: The table; its `ranked` columns, or all with a direction and no printed rank.
        numbers: Column to row to number; the printed ones by default.
    """
    chosen = table.ranked or tuple(column.name for column in table.columns if column.better)
    given = numbers or {name: table.numbers(name) for name in chosen}
    present = [name for name in chosen if given.get(name)]
    rows = [row for row in table.cells if all(row in given[name] for name in present)]
    ranks = [
        ordinal_ranks(
            {row: given[name][row] for row in rows}, higher=table.column(name).better == "up"
        )
        for name in present
    ]
    return {row: sum(rank[row] for rank in ranks) / len(ranks) for row in rows} if ranks else {}


def marks(numbers: Mapping[str, float], *, higher: bool) -> dict[str, str]:
    """Row to "best" or "second"; equal numbers share a mark."""
    ranked = sorted(set(numbers.values()), reverse=higher)[:2]
    named = dict(zip(ranked, ("best", "second"), strict=False))
    return {row: named[value] for row, value in numbers.items() if value in named}


def noise_floor() -> dict[str, float]:
    """Metric to the largest difference that papers print for one row of one suite.

    PuLID (Flux) and PuLID (SDXL) stand in two papers, on the same suite, with other numbers: what
    separates them is the least that any measurement can be held to.
    """
    floor: dict[str, float] = {}
    tables = [table for table in load_tables().values() if table.measurable]
    for place, one in enumerate(tables):
        for other in tables[place + 1 :]:
            if one.paper == other.paper or one.suite != other.suite:
                continue
            for column in one.columns:
                for match in other.columns:
                    if column.metric is None or column.metric != match.metric:
                        continue
                    left, right = one.numbers(column.name), other.numbers(match.name)
                    for row in left.keys() & right.keys():
                        # In decimals: 0.070 - 0.0658 is 0.0042 and nothing beyond.
                        difference = abs(
                            Decimal(one.cells[row][column.name].text)
                            - Decimal(other.cells[row][match.name].text)
                        )
                        floor[column.metric] = max(floor.get(column.metric, 0), float(difference))
    return floor


def _table(
    paper: str, name: str, entry: Mapping[str, Any], raw: Mapping[str, Any]
) -> PublishedTable:
    text = files(DATA).joinpath(raw["file"]).read_text("utf-8")
    cells: dict[str, dict[str, Printed]] = {}
    columns = tuple(
        PublishedColumn(name=column, **fields) for column, fields in raw["columns"].items()
    )
    for line in csv.DictReader(io.StringIO(text)):
        key = " / ".join(line[field] or "none" for field in _keys(raw))
        if key in cells:
            raise ValueError(f"{raw['file']}: {key} occurs twice")
        cells[key] = {column.name: _printed(line[column.name]) for column in columns}
    rows = {
        row: RowSource(
            method=source.get("method"), args=source.get("args", {}), note=source.get("note", "")
        )
        for row, source in (raw.get("rows") or {}).items()
    }
    unknown = rows.keys() - cells.keys()
    if unknown:
        raise ValueError(f"{raw['file']} has no row {', '.join(sorted(unknown))}")
    ranks = raw.get("ranks") or {}
    return PublishedTable(
        paper=paper,
        name=name,
        title=entry["title"],
        arxiv=entry["arxiv"],
        caption=raw["caption"],
        section=str(raw["section"]),
        page=raw["page"],
        suite=raw["suite"],
        tolerance=float(raw.get("tolerance", 0.0)),
        columns=columns,
        rows={row: rows.get(row, RowSource(args={})) for row in cells},
        cells=cells,
        ranked=tuple(ranks.get("of", ())),
        printed_rank=ranks.get("column"),
        anomalies=tuple(raw["anomalies"]),
    )


def _keys(raw: Mapping[str, Any]) -> Sequence[str]:
    return [raw[key] for key in ("key", "key2") if key in raw]


def _printed(text: str) -> Printed:
    try:
        return Printed(text, float(text))
    except ValueError:
        return Printed(text, None)
