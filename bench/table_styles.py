"""The styles of a table: terminal, Markdown, CSV, LaTeX and JSON from the same grids."""

import csv as csv_format
import io
import json as json_format
import re
import textwrap
from collections.abc import Sequence

from idbench import escape
from idbench.columns import ColumnName
from idbench.records import Column
from idbench.tables import Cell, Grid, Header

GAP = "  "
WIDEST_LABEL = 24
WIDEST_HEAD = 16
MISSING = "–"  # noqa: RUF001 (an en dash is what a table prints for no value)


def terminal(grids: Sequence[Grid], width: int) -> str:
    """Tables for a terminal; columns that do not fit beside one another go into further blocks."""
    return "\n".join(_terminal_table(grid, width) for grid in grids)


def _terminal_table(grid: Grid, width: int) -> str:
    per_row = None if grid.coverage else grid.row_coverage
    labels = [_wrap(escape.plain(row.label), WIDEST_LABEL) for row in grid.rows]
    label_width = max((escape.display_width(line) for label in labels for line in label), default=0)
    lead = [[escape.pad(line, label_width) for line in label] for label in labels]
    lead_width = label_width
    if per_row:
        digits = max(map(len, (*per_row, "n/N")))
        lead = [
            [
                f"{line}{GAP}{(text if index == 0 else '').rjust(digits)}"
                for index, line in enumerate(lines)
            ]
            for lines, text in zip(lead, per_row, strict=True)
        ]
        lead_width += len(GAP) + digits
    blocks: list[list[list[str]]] = []
    used = width
    for index in range(len(grid.headers)):
        column = _terminal_column(grid, index, own_coverage=not (grid.coverage or per_row))
        needed = len(GAP) + len(column[0])
        if used + needed > width or not blocks:
            blocks.append([])
            used = lead_width
        blocks[-1].append(column)
        used += needed
    lines = [f"suite {escape.plain(grid.suite)}"]
    for block in blocks:
        lines += ["", *_terminal_block(block, lead, lead_width, per_row is not None)]
    lines.append("")
    legend = _terminal_legend(grid)
    for note in (*legend, *map(escape.plain, grid.notes)):
        lines += textwrap.wrap(note, width, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _terminal_legend(grid: Grid) -> list[str]:
    legend = []
    if grid.coverage:
        legend.append(f"Every number stands on {grid.coverage} samples.")
    else:
        legend.append("n/N: samples with a value / samples planned.")
    if any(cell and cell.mark for row in grid.rows for cell in row.cells):
        legend.append("* best, + second best; arrows point to better.")
    return [" ".join(legend)]


def _terminal_block(
    block: Sequence[Sequence[str]], lead: Sequence[Sequence[str]], lead_width: int, per_row: bool
) -> list[str]:
    depth = max(len(column) for column in block) - len(lead)
    heads = [
        [" " * len(column[0])] * (depth - (len(column) - len(lead)))
        + list(column[: len(column) - len(lead)])
        for column in block
    ]
    lines = []
    for level in range(depth):
        corner = escape.pad("n/N" if per_row and level == depth - 1 else "", lead_width, right=True)
        lines.append(GAP.join([corner, *(head[level] for head in heads)]))
    lines.append("─" * len(lines[0]))
    for place, label in enumerate(lead):
        cells = [column[len(column) - len(lead) + place] for column in block]
        lines.append(GAP.join([label[0], *cells]))
        lines += list(label[1:])
    return lines


def _terminal_column(grid: Grid, index: int, *, own_coverage: bool) -> list[str]:
    """Header lines, then one line per row, all of one width."""
    header = grid.headers[index]
    agreed = grid.column_coverage(index) if own_coverage else None
    cells = _terminal_cells(
        header,
        [row.cells[index] for row in grid.rows],
        with_coverage=own_coverage and agreed is None,
    )
    name = ColumnName.parse(header.column.name)
    body = max(map(len, cells))
    heads = [
        *_wrap(escape.plain(name.metric), max(body, WIDEST_HEAD)),
        *_wrap(f"@{escape.plain(name.protocol)}", max(body, WIDEST_HEAD)),
        *_wrap(f"[{escape.plain(name.backend)}]", max(body, WIDEST_HEAD)),
        *([header.tag.strip()] if header.tag else []),
        f"{escape.plain(header.column.unit)} {header.arrow}".strip(),
        *([agreed] if agreed else []),
    ]
    width = max(escape.display_width(line) for line in (*heads, *cells))
    return [escape.pad(line, width, right=True) for line in (*heads, *cells)]


def _terminal_cells(
    header: Header, cells: Sequence[Cell | None], *, with_coverage: bool
) -> list[str]:
    """Cells of one width in which means, margins and coverage each stand below one another."""
    parts = [_terminal_parts(header, cell, with_coverage) for cell in cells]
    widths = [max(len(part[place]) for part in parts) for place in range(4)]
    return [
        mean.rjust(widths[0])
        + margin.ljust(widths[1])
        + mark.ljust(widths[2])
        + coverage.rjust(widths[3])
        for mean, margin, mark, coverage in parts
    ]


def _terminal_parts(
    header: Header, cell: Cell | None, with_coverage: bool
) -> tuple[str, str, str, str]:
    if cell is None:
        return "", "", " ", ""
    coverage = f" {cell.coverage}" if with_coverage else ""
    if cell.mean is None:
        return MISSING, "", " ", coverage
    margin = "" if cell.margin is None else f" ±{header.number(cell.margin)}"
    return (
        header.number(cell.mean),
        margin,
        {"": " ", "best": "*", "second": "+"}[cell.mark],
        coverage,
    )


def _wrap(text: str, width: int) -> list[str]:
    """Lines of at most `width`, broken after punctuation where there is any."""
    lines = [""]
    for part in re.findall(r"[^\s._,(=-]*[\s._,(=-]?", text):
        while escape.display_width(lines[-1] + part) > width:
            if lines[-1]:
                lines.append("")
                continue
            cut = next(
                length
                for length in range(len(part), 0, -1)
                if escape.display_width(part[:length]) <= width
            )
            lines[-1], part = part[:cut], part[cut:]
        lines[-1] += part
    return [line.rstrip() for line in lines if line.strip()] or [""]


def markdown(grids: Sequence[Grid]) -> str:
    """Tables of GitHub Markdown: best bold, second underlined, intervals and coverage in cells."""
    return "\n".join(_markdown_table(grid) for grid in grids)


def _markdown_table(grid: Grid) -> str:
    per_row = None if grid.coverage else grid.row_coverage
    heads = ["method", *(["n/N"] if per_row else [])]
    for index, header in enumerate(grid.headers):
        agreed = grid.column_coverage(index) if not (grid.coverage or per_row) else None
        below = f"{escape.markdown(header.column.unit)} {header.arrow}".strip()
        heads.append(
            "<br>".join(
                filter(None, (escape.markdown(header.name), below, agreed and f"n/N {agreed}"))
            )
        )
    lines = [f"**{escape.markdown(grid.suite)}**", "", _pipes(heads)]
    lines.append(_pipes(["---", *["---:"] * (len(heads) - 1)]))
    for place, row in enumerate(grid.rows):
        cells = [escape.markdown(row.label), *([per_row[place]] if per_row else [])]
        for index, cell in enumerate(row.cells):
            own = not (grid.coverage or per_row or grid.column_coverage(index))
            cells.append(_markdown_cell(grid.headers[index], cell, own))
        lines.append(_pipes(cells))
    legend = "Best **bold**, second <ins>underlined</ins>. "
    legend += (
        f"Every number stands on {grid.coverage} samples."
        if grid.coverage
        else ("n/N: samples with a value / samples planned.")
    )
    return "\n".join([*lines, "", "\n".join([legend, *map(_markdown_note, grid.notes)]), ""])


def _markdown_note(note: str) -> str:
    return f"<br>{escape.markdown(note)}"


def _markdown_cell(header: Header, cell: Cell | None, with_coverage: bool) -> str:
    if cell is None:
        return ""
    coverage = f" {cell.coverage}" if with_coverage else ""
    if cell.mean is None:
        return f"{MISSING}{coverage}"
    number = header.number(cell.mean)
    number = {"": number, "best": f"**{number}**", "second": f"<ins>{number}</ins>"}[cell.mark]
    return f"{number}{_bracket(header, cell)}{coverage}"


def _bracket(header: Header, cell: Cell) -> str:
    if cell.low is None or cell.high is None:
        return ""
    return f" \\[{header.number(cell.low)}, {header.number(cell.high)}\\]"


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


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
    per_row = None if grid.coverage else grid.row_coverage
    levels = [["Method"], [""], [""]]
    if per_row:
        levels = [["Method", r"$n/N$"], ["", ""], ["", ""]]
    for index, header in enumerate(grid.headers):
        name = ColumnName.parse(header.column.name)
        arrow = {"↑": r" $\uparrow$", "↓": r" $\downarrow$", "": ""}[header.arrow]
        agreed = grid.column_coverage(index) if not (grid.coverage or per_row) else None
        levels[0].append(f"{escape.latex(name.metric)}{arrow}")
        levels[1].append(_small(f"@{name.protocol}[{name.backend}]{header.tag}"))
        levels[2].append(_small(agreed) if agreed else "")
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex_caption(grid)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(levels[0]) - 1)}}}",
        r"\toprule",
        *(f"{' & '.join(level)} \\\\" for level in levels if any(level)),
        r"\midrule",
    ]
    for place, row in enumerate(grid.rows):
        cells = [escape.latex(row.label), *([per_row[place]] if per_row else [])]
        for index, cell in enumerate(row.cells):
            own = not (grid.coverage or per_row or grid.column_coverage(index))
            cells.append(_latex_cell(grid.headers[index], cell, own))
        lines.append(f"{' & '.join(cells)} \\\\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\footnotesize {escape.latex(note)}" for note in grid.notes]
    return "\n".join([*lines, r"\end{table}", ""])


def _small(text: str) -> str:
    return rf"{{\scriptsize {escape.latex(text)}}}"


def _latex_caption(grid: Grid) -> str:
    caption = f"Suite {escape.latex(grid.suite)}. "
    caption += r"Best \textbf{bold}, second \underline{underlined}."
    if grid.coverage:
        return f"{caption} Every number stands on {grid.coverage} samples."
    return f"{caption} $n/N$: samples with a value / samples planned."


def _latex_cell(header: Header, cell: Cell | None, with_coverage: bool) -> str:
    if cell is None:
        return ""
    coverage = rf" {{\scriptsize {cell.coverage}}}" if with_coverage else ""
    if cell.mean is None:
        return f"--{coverage}"
    number = header.number(cell.mean)
    number = number.replace("-", "$-$")
    number = {
        "": number,
        "best": rf"\textbf{{{number}}}",
        "second": rf"\underline{{{number}}}",
    }[cell.mark]
    margin = "" if cell.margin is None else rf" {{\scriptsize $\pm${header.number(cell.margin)}}}"
    return f"{number}{margin}{coverage}"
