"""A comparison as terminal text, Markdown, CSV and JSON."""

import csv
import io
import json
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from idbench import escape
from idbench.compare import Comparison, Difference
from idbench.tables import MISSING, Header

Style = Literal["terminal", "markdown", "csv", "json"]
Locate = Callable[[str, int], Sequence[str]]


def render_comparison(
    comparison: Comparison, *, style: Style, width: int = 80, locate: Locate | None = None
) -> str:
    """Prints a comparison; `locate` gives the images of a sample, for the cases that changed most.

    Raises:
        LookupError: If `style` is unknown.
    """
    styles: Mapping[str, Callable[[], str]] = {
        "terminal": lambda: _terminal(comparison, width, locate),
        "markdown": lambda: _markdown(comparison),
        "csv": lambda: _csv(comparison),
        "json": lambda: _json(comparison),
    }
    if style not in styles:
        raise LookupError(f"unknown style {style!r}; known: {', '.join(styles)}")
    return styles[style]()


def _terminal(comparison: Comparison, width: int, locate: Locate | None) -> str:
    lines = [
        f"suite {escape.plain(comparison.suite)}",
        f"first  {escape.plain(comparison.first)}",
        f"second {escape.plain(comparison.second)}",
        "",
        *_aligned([_HEADS, *(_cells(each) for each in comparison.differences)], width),
    ]
    if comparison.by_tag:
        lines += ["", "by tag", ""]
        lines += _aligned([_HEADS, *(_cells(each) for each in comparison.by_tag)], width)
    lines.append("")
    for note in [*_LEGEND, *_lost(comparison.differences), *comparison.notes]:
        lines += textwrap.wrap(escape.plain(note), width, subsequent_indent="  ")
    for each in comparison.differences:
        if each.changes and locate:
            header = Header(column=each.column, decimals=_decimals(each))
            lines += ["", f"changed most in {escape.plain(each.column.name)}"]
            for change in each.changes:
                values = f"{header.number(change.first)} -> {header.number(change.second)}"
                lines.append(f"  {change.case_id}/{change.sample:03d}  {values}")
                images = locate(change.case_id, change.sample)
                lines += [f"    {escape.plain(image)}" for image in images]
    return "\n".join(line.rstrip() for line in lines) + "\n"


_HEADS = ("column", "first", "second", "difference", "pairs", "p (Holm)", "second is")
_LEGEND = (
    "Means over the pairs, samples with a value in both runs; pairs of planned. "
    "Difference is second minus first with its 95 % interval, resampling identities; "
    "p is Holm's over all lines.",
)


def _cells(each: Difference) -> tuple[str, ...]:
    header = Header(column=each.column, decimals=_decimals(each))
    name = escape.plain(f"{each.column.name}{f' {each.tag}' if each.tag else ''}")
    if not each.pairs:
        return name, MISSING, MISSING, MISSING, f"0/{each.total}", "", each.verdict
    margin = each.difference.margin
    interval = "" if math.isnan(margin) else f" ±{header.number(margin)}"
    sign = "+" if float(header.number(each.difference.mean)) > 0 else ""
    return (
        name,
        header.number(each.first_mean),
        header.number(each.second_mean),
        f"{sign}{header.number(each.difference.mean)}{interval}",
        f"{each.pairs}/{each.total}",
        "<0.001" if each.adjusted_p < 0.001 else f"{each.adjusted_p:.3f}",
        each.verdict,
    )


def _decimals(each: Difference) -> int:
    column = each.column
    if math.isfinite(column.low) and math.isfinite(column.high):
        return 3 if column.high - column.low <= 10 else 2
    return 3 if not max(abs(each.first_mean), abs(each.second_mean)) >= 10 else 2


def _lost(differences: Sequence[Difference]) -> list[str]:
    return [
        f"{each.column.name}: {each.only_first} samples have a value in the first run alone, "
        f"{each.only_second} in the second alone; the difference does not see them."
        for each in differences
        if each.only_first or each.only_second
    ]


def _aligned(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Columns side by side; where that is wider than `width`, names stand on lines of their own."""
    widths = [
        max(escape.display_width(row[place]) for row in rows) for place in range(len(rows[0]))
    ]
    own_line = sum(widths) + 2 * (len(widths) - 1) > width
    lines = []
    for row in rows:
        cells = [
            escape.pad(cell, widths[place], right=0 < place < len(row) - 1)
            for place, cell in enumerate(row)
        ]
        if own_line:
            lines += [row[0]] if row[0] != _HEADS[0] else []
            cells[0] = "  "
        lines.append("  ".join(cells).rstrip())
    return lines


def _markdown(comparison: Comparison) -> str:
    lines = [
        f"**{escape.markdown(comparison.suite)}**: first {escape.markdown(comparison.first)}, "
        f"second {escape.markdown(comparison.second)}",
        "",
        f"| {' | '.join(_HEADS)} |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for each in (*comparison.differences, *comparison.by_tag):
        lines.append(f"| {' | '.join(map(escape.markdown, _cells(each)))} |")
    notes = [*_LEGEND, *_lost(comparison.differences), *comparison.notes]
    return "\n".join([*lines, "", "\n<br>".join(map(escape.markdown, notes)), ""])


def _records(comparison: Comparison) -> list[dict[str, object]]:
    def number(value: float) -> float | None:
        return None if math.isnan(value) else value

    return [
        {
            "suite": comparison.suite,
            "first": comparison.first,
            "second": comparison.second,
            "column": each.column.name,
            "fingerprint": each.column.fingerprint,
            "tag": each.tag,
            "first_mean": number(each.first_mean),
            "second_mean": number(each.second_mean),
            "difference": number(each.difference.mean),
            "low": number(each.difference.low),
            "high": number(each.difference.high),
            "p": each.p,
            "adjusted_p": each.adjusted_p,
            "pairs": each.pairs,
            "total": each.total,
            "only_first": each.only_first,
            "only_second": each.only_second,
            "verdict": each.verdict,
        }
        for each in (*comparison.differences, *comparison.by_tag)
    ]


def _csv(comparison: Comparison) -> str:
    buffer = io.StringIO()
    records = _records(comparison)
    writer = csv.DictWriter(buffer, list(records[0]), lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow(
            {
                key: escape.spreadsheet(escape.plain(value)) if isinstance(value, str) else value
                for key, value in record.items()
            }
        )
    return buffer.getvalue()


def _json(comparison: Comparison) -> str:
    changes = {
        each.column.name: [
            {"case_id": c.case_id, "sample": c.sample, "first": c.first, "second": c.second}
            for c in each.changes
        ]
        for each in comparison.differences
    }
    document = {
        "differences": _records(comparison),
        "changes": changes,
        "notes": list(comparison.notes),
    }
    return json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n"
