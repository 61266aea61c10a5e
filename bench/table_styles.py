"""The styles of a table for documents and programs: Markdown, CSV, LaTeX and JSON."""

import csv as csv_format
import io
import json as json_format
from collections.abc import Sequence

from idbench import escape
from idbench.columns import ColumnName
from idbench.records import Column
from idbench.tables import COVERAGE_LEGEND, MISSING, Cell, Grid, Header


def markdown(grids: Sequence[Grid]) -> str:
    """Tables of GitHub Markdown: best bold, second underlined, intervals and coverage in cells."""
    return "\n".join(_markdown_table(grid) for grid in grids)


def _markdown_table(grid: Grid) -> str:
    columns = [["method", "---", *(escape.markdown(row.label) for row in grid.rows)]]
    for span in grid.spans():
        if not grid.coverage:
            columns.append(["n/N", "---:", *(text or "" for text in span.coverage)])
        for index in span.columns:
            header = grid.headers[index]
            unit = f"{escape.markdown(header.column.unit)} {header.arrow}".strip()
            head = "<br>".join(filter(None, (escape.markdown(header.name), unit)))
            cells = [_markdown_cell(header, row.cells[index]) for row in grid.rows]
            columns.append([head, "---:", *cells])
    lines = [f"| {' | '.join(line)} |" for line in zip(*columns, strict=True)]
    legend = f"Best **bold**, second <ins>underlined</ins>. {_coverage_legend(grid)}"
    notes = "\n".join([legend, *map(_markdown_note, grid.notes)])
    return "\n".join([f"**{escape.markdown(grid.suite)}**", "", *lines, "", notes, ""])


def _coverage_legend(grid: Grid) -> str:
    return f"Every number stands on {grid.coverage} samples." if grid.coverage else COVERAGE_LEGEND


def _markdown_note(note: str) -> str:
    return f"<br>{escape.markdown(note)}"


def _markdown_cell(header: Header, cell: Cell | None) -> str:
    if cell is None:
        return ""
    if cell.mean is None:
        return MISSING
    number = header.number(cell.mean)
    number = {"": number, "best": f"**{number}**", "second": f"<ins>{number}</ins>"}[cell.mark]
    return f"{number}{_bracket(header, cell)}"


def _bracket(header: Header, cell: Cell) -> str:
    if cell.low is None or cell.high is None:
        return ""
    return f" \\[{header.number(cell.low)}, {header.number(cell.high)}\\]"


def csv(grids: Sequence[Grid]) -> str:
    """One line per number. Text that a spreadsheet would read as a formula begins with `'`."""
    buffer = io.StringIO()
    writer = csv_format.writer(buffer, lineterminator="\n")
    rows = _records(grids)
    writer.writerow(_FIELDS)
    for row in rows:
        writer.writerow([_csv_value(row[field]) for field in _FIELDS])
    return buffer.getvalue()


_FIELDS = (
    "suite", "label", "run", "column", "fingerprint", "unit", "higher_is_better", "mean", "low",
    "high", "n", "total", "identities", "mark", "reasons",
)  # fmt: skip


def _csv_value(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        value = " ".join(f"{reason}:{count}" for reason, count in value.items())
    if isinstance(value, str):
        return escape.spreadsheet(escape.plain(value))
    return repr(value)


def json(grids: Sequence[Grid]) -> str:
    """The records of the numbers, the columns with all their fields, and the notes."""
    columns = {
        f"{header.column.name} {header.column.fingerprint}": _column_record(header.column)
        for grid in grids
        for header in grid.headers
    }
    document = {
        "columns": [columns[key] for key in sorted(columns)],
        "rows": _records(grids),
        "notes": {grid.suite: list(grid.notes) for grid in grids},
    }
    return json_format.dumps(document, sort_keys=True, indent=1, allow_nan=False) + "\n"


def _column_record(column: Column) -> dict[str, object]:
    def bound(value: float) -> float | str:
        return value if abs(value) != float("inf") else str(value)

    return {
        "name": column.name,
        "fingerprint": column.fingerprint,
        "unit": column.unit,
        "higher_is_better": column.higher_is_better,
        "low": bound(column.low),
        "high": bound(column.high),
        "axis": column.axis,
        "comparable_to_published": column.comparable_to_published,
        "details": column.details,
    }


def _records(grids: Sequence[Grid]) -> list[dict[str, object]]:
    return [
        {
            "suite": grid.suite,
            "label": row.label,
            "run": row.run,
            "column": header.column.name,
            "fingerprint": header.column.fingerprint,
            "unit": header.column.unit,
            "higher_is_better": header.column.higher_is_better,
            "mean": cell.mean,
            "low": cell.low,
            "high": cell.high,
            "n": cell.n,
            "total": cell.total,
            "identities": cell.identities,
            "mark": cell.mark,
            "reasons": cell.reasons,
        }
        for grid in grids
        for row in grid.rows
        for header, cell in zip(grid.headers, row.cells, strict=True)
        if cell is not None
    ]


def latex(grids: Sequence[Grid]) -> str:
    """Tables for the booktabs package: best bold, second underlined."""
    return "\n".join(_latex_table(grid) for grid in grids)


def _latex_table(grid: Grid) -> str:
    columns = [["Method", "", *(escape.latex(row.label) for row in grid.rows)]]
    for span in grid.spans():
        if not grid.coverage:
            columns.append(["$n/N$", "", *(text or "" for text in span.coverage)])
        for index in span.columns:
            header = grid.headers[index]
            name = ColumnName.parse(header.column.name)
            arrow = {"↑": r" $\uparrow$", "↓": r" $\downarrow$", "": ""}[header.arrow]
            heads = [
                f"{escape.latex(name.metric)}{arrow}",
                _small(f"@{name.protocol}[{name.backend}]{header.tag}"),
            ]
            columns.append([*heads, *(_latex_cell(header, row.cells[index]) for row in grid.rows)])
    body = [f"{' & '.join(line)} \\\\" for line in zip(*columns, strict=True)]
    lines = [
        r"% needs \usepackage{booktabs} and \usepackage[T1]{fontenc}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex_caption(grid)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
        r"\toprule",
        *body[:2],
        r"\midrule",
        *body[2:],
        r"\bottomrule",
        r"\end{tabular}",
    ]
    lines += [rf"\par\footnotesize {escape.latex(note)}" for note in grid.notes]
    return "\n".join([*lines, r"\end{table}", ""])


def _small(text: str) -> str:
    return rf"{{\scriptsize {escape.latex(text)}}}"


def _latex_caption(grid: Grid) -> str:
    caption = f"Suite {escape.latex(grid.suite)}. "
    caption += r"Best \textbf{bold}, second \underline{underlined}."
    return f"{caption} {escape.latex(_coverage_legend(grid))}"


def _latex_cell(header: Header, cell: Cell | None) -> str:
    if cell is None:
        return ""
    if cell.mean is None:
        return "--"
    number = header.number(cell.mean)
    number = number.replace("-", "$-$")
    number = {
        "": number,
        "best": rf"\textbf{{{number}}}",
        "second": rf"\underline{{{number}}}",
    }[cell.mark]
    margin = "" if cell.margin is None else rf" {{\scriptsize $\pm${header.number(cell.margin)}}}"
    return f"{number}{margin}"
