"""Printed tables beside measured numbers, as terminal text, Markdown, CSV and JSON."""

import csv
import io
import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Literal

from idbench import escape
from idbench.methods.registry import method_info
from idbench.paper_tables import PublishedTable, marks
from idbench.reproduction import ReproducedCell, Reproduction
from idbench.requirements import Needs
from idbench.tables import MISSING

Style = Literal["terminal", "markdown", "csv", "json"]
HEADS = ("column", "printed", "measured", "n/N", "difference", "tolerance", "verdict")


def list_tables(tables: Sequence[PublishedTable], width: int = 80) -> str:
    """One paragraph per table: what it is, its size, what here can fill it."""
    lines = []
    for table in tables:
        measurable = [column.name for column in table.columns if column.metric]
        lines.append(f"{table.id}  {len(table.cells)} rows x {len(table.columns)} columns")
        text = f"{table.caption}; section {table.section}"
        if table.measurable:
            text += f"; suite {table.suite}; {len(measurable)} columns measurable; {_ways(table)}"
        else:
            reasons = dict.fromkeys(column.why for column in table.columns if column.why)
            text += f"; not measurable: {', '.join(reasons) or 'no suite'}"
        lines += textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="  ")
    return "\n".join(lines) + "\n"


# How a row can be measured, by the route of its method.
WAYS = {
    "native": "by a method here",
    "recipe": "by a recipe",
    "command": "by its authors' program",
    "images": "by images made elsewhere",
    None: "by nothing here",
}


def _ways(table: PublishedTable) -> str:
    """The rows of a table, by how they can be measured."""
    rows: dict[str | None, list[str]] = {way: [] for way in WAYS}
    for row, source in table.rows.items():
        try:
            rows[method_info(source.method).route if source.method else None].append(row)
        except LookupError:
            rows[None].append(row)
    return "; ".join(f"{WAYS[way]}: {', '.join(names)}" for way, names in rows.items() if names)


def terminal(found: Reproduction, needs: Mapping[str, Needs], width: int = 80) -> str:
    """The table row by row, then ranks, anomalies and what is missing."""
    table = found.table
    lines = [f"{table.id}  {table.title}"]
    lines[0:1] = textwrap.wrap(lines[0], width, subsequent_indent="  ")
    about = f"{table.caption}; section {table.section}; suite {table.suite or 'none'}"
    lines += textwrap.wrap(about, width, initial_indent="  ", subsequent_indent="  ")
    for row in table.cells:
        lines += ["", *_row(found, row, width)]
    lines += ["", *_ranks(found, width)]
    for anomaly in table.anomalies:
        lines += textwrap.wrap(f"as printed: {anomaly}", width, subsequent_indent="  ")
    lines += _missing(needs, width)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _row(found: Reproduction, row: str, width: int) -> list[str]:
    """Measured cells one per line; the others as printed, several to a line."""
    cells = [cell for cell in found.row(row) if cell.printed.text or cell.measured]
    measured = [cell for cell in cells if cell.measured]
    label = next((cell.measured.label for cell in measured if cell.measured), None)
    lines = [f"{escape.plain(row)}{f'  <- {escape.plain(label)}' if label else ''}"]
    if measured:
        lines += _aligned([HEADS, *(_texts(cell, found) for cell in measured)])
    for reason in dict.fromkeys(cell.why for cell in measured if cell.why):
        lines += textwrap.wrap(
            f"not comparable: {reason}", width, initial_indent="  ", subsequent_indent="    "
        )
    others = [_texts(cell, found)[:2] for cell in cells if not cell.measured]
    if others:
        # Blanks inside a pair are kept from the line breaks.
        pairs = "  ".join(f"{name} {printed}".replace(" ", "\0") for name, printed in others)
        head = "  not measured: " if measured else "  "
        wrapped = textwrap.wrap(pairs, width, initial_indent=head, subsequent_indent="  ")
        lines += [line.replace("\0", " ") for line in wrapped]
    return lines


def _texts(cell: ReproducedCell, found: Reproduction) -> tuple[str, ...]:
    numbers = found.table.numbers(cell.column.name)
    mark = ""
    if cell.column.better:
        best = marks(numbers, higher=cell.column.better == "up").get(cell.row, "")
        mark = {"best": "*", "second": "+", "": ""}[best]
    arrow = {"up": " ↑", "down": " ↓", None: ""}[cell.column.better]
    name, printed = f"{cell.column.name}{arrow}", f"{cell.printed.text or MISSING}{mark}"
    decimals = max(cell.printed.decimals, 3)
    if cell.measured is None:
        return name, printed, MISSING, "", "", "", cell.verdict
    coverage = f"{cell.measured.n}/{cell.measured.total}"
    if cell.measured.mean is None:
        return name, printed, MISSING, coverage, "", "", cell.verdict
    margin = "" if cell.measured.margin is None else f" ±{cell.measured.margin:.{decimals}f}"
    difference = "" if cell.difference is None else f"{cell.difference:+.{decimals}f}"
    tolerance = "" if cell.difference is None else f"{cell.tolerance:.{decimals + 1}f}"
    measured = f"{cell.measured.mean:.{decimals}f}{margin}"
    return name, printed, measured, coverage, difference, tolerance, cell.verdict


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    widths = [
        max(escape.display_width(row[place]) for row in rows) for place in range(len(rows[0]))
    ]
    return [
        "  "
        + "  ".join(
            escape.pad(text, widths[place], right=0 < place < len(row) - 1)
            for place, text in enumerate(row)
        ).rstrip()
        for row in rows
    ]


def _ranks(found: Reproduction, width: int) -> list[str]:
    table = found.table
    lines = []
    if found.printed_ranks and len(found.printed_ranks) > 1 and (table.ranked or table.measurable):
        over = ", ".join(table.ranked) or "all columns with a direction"
        ordered = sorted(found.printed_ranks.items(), key=lambda pair: pair[1])
        text = f"mean rank over {over}: " + ", ".join(f"{row} {rank:.1f}" for row, rank in ordered)
        if table.printed_rank:
            printed = table.numbers(table.printed_rank)
            wrong = [row for row, rank in ordered if abs(printed[row] - rank) > 0.05]
            text += f"; as printed in {len(printed) - len(wrong)} of {len(printed)} rows"
        lines += textwrap.wrap(text, width, subsequent_indent="  ")
    if found.measured_ranks:
        ordered = sorted(found.measured_ranks.items(), key=lambda pair: pair[1])
        text = "mean rank of measured rows: " + ", ".join(f"{r} {n:.1f}" for r, n in ordered)
        lines += textwrap.wrap(text, width, subsequent_indent="  ")
    for column, tau in found.rank_agreement.items():
        lines.append(f"order of measured rows in {column}: Kendall's tau {tau:+.2f} to the printed")
    lines.append("printed: * best, + second best; tolerance: the largest of")
    lines.append(
        f"  {table.tolerance:.0%} of the number, half its last digit, "
        "what papers differ by in one row"
    )
    return lines


def _missing(needs: Mapping[str, Needs], width: int) -> list[str]:
    lines: list[str] = []
    shared = list(next(iter(needs.values())).missing) if needs else []
    shared = [line for line in shared if all(line in each.missing for each in needs.values())]
    if shared:
        lines += ["", "missing for every row"]
        for line in shared:
            lines += _bullet(line, width)
    for row, each in needs.items():
        lines += ["", f"to measure {escape.plain(row)}"]
        for line in each.missing:
            if line not in shared:
                lines += _bullet(line, width)
        lines += [f"  {command}" for command in each.commands]
    return lines


def _bullet(line: str, width: int) -> list[str]:
    return textwrap.wrap(
        escape.plain(line),
        width,
        initial_indent="  - ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def records(found: Reproduction) -> list[dict[str, object]]:
    """One record per cell."""
    return [
        {
            "table": found.table.id,
            "row": cell.row,
            "column": cell.column.name,
            "printed": cell.printed.text,
            "metric": cell.measured.column.name if cell.measured else cell.column.metric,
            "run": cell.measured.label if cell.measured else None,
            "measured": cell.measured.mean if cell.measured else None,
            "margin": cell.measured.margin if cell.measured else None,
            "n": cell.measured.n if cell.measured else None,
            "total": cell.measured.total if cell.measured else None,
            "difference": cell.difference,
            "tolerance": cell.tolerance if cell.printed.value is not None else None,
            "verdict": cell.verdict,
            "why": cell.why,
        }
        for cell in found.cells
    ]


def as_csv(found: Reproduction) -> str:
    """One line per cell."""
    buffer = io.StringIO()
    rows = records(found)
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {
                key: escape.spreadsheet(escape.plain(value)) if isinstance(value, str) else value
                for key, value in row.items()
            }
        )
    return buffer.getvalue()


def as_json(found: Reproduction) -> str:
    """The cells, ranks and anomalies."""
    document = {
        "table": found.table.id,
        "title": found.table.title,
        "arxiv": found.table.arxiv,
        "section": found.table.section,
        "suite": found.table.suite,
        "cells": records(found),
        "printed_ranks": dict(found.printed_ranks),
        "measured_ranks": dict(found.measured_ranks),
        "rank_agreement": dict(found.rank_agreement),
        "anomalies": list(found.table.anomalies),
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def markdown(found: Reproduction) -> str:
    """The measured rows, one line per cell; other rows as printed."""
    lines = [
        f"**{escape.markdown(found.table.id)}**: {escape.markdown(found.table.caption)}",
        "",
        f"| row | {' | '.join(HEADS)} |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for cell in found.cells:
        if cell.printed.text or cell.measured:
            texts = [escape.markdown(text) for text in (cell.row, *_texts(cell, found))]
            lines.append(f"| {' | '.join(texts)} |")
    return "\n".join([*lines, ""])
