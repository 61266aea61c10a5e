"""The terminal style of a table: blocks of columns that fit the width of the screen."""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from idbench import escape
from idbench.columns import ColumnName
from idbench.tables import COVERAGE_LEGEND, MISSING, Cell, Grid, Header

GAP = "  "
WIDEST_LABEL = 24
WIDEST_HEAD = 18


@dataclass(frozen=True, slots=True)
class TextColumn:
    """A column as lines of one width: some of the header, then one per row."""

    heads: tuple[str, ...]
    cells: tuple[str, ...]

    @property
    def width(self) -> int:
        """Columns of the terminal that it takes."""
        return escape.display_width(self.cells[0])

    @classmethod
    def of(cls, heads: Sequence[str], cells: Sequence[str]) -> "TextColumn":
        """Pads all lines to the widest, text to the right."""
        width = max(escape.display_width(line) for line in (*heads, *cells))
        return cls(
            tuple(escape.pad(line, width, right=True) for line in heads),
            tuple(escape.pad(line, width, right=True) for line in cells),
        )


def terminal(grids: Sequence[Grid], width: int) -> str:
    """Tables for a terminal; columns that do not fit beside one another go into further blocks."""
    return "\n".join(_table(grid, width) for grid in grids)


def _table(grid: Grid, width: int) -> str:
    labels = [_wrap(escape.plain(row.label), WIDEST_LABEL) for row in grid.rows]
    label_width = max((escape.display_width(line) for label in labels for line in label), default=0)
    lines = [f"suite {escape.plain(grid.suite)}"]
    for block in _blocks(grid, width - label_width):
        lines += ["", *_block_lines(block, labels, label_width)]
    lines.append("")
    for note in (_legend(grid), *map(escape.plain, grid.notes)):
        lines += textwrap.wrap(note, width, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _blocks(grid: Grid, room: int) -> list[list[TextColumn]]:
    """Columns in blocks no wider than `room`, each begun by the coverage where that varies."""
    blocks: list[list[TextColumn]] = []
    used = room
    for span in grid.spans():
        coverage = TextColumn.of(["n/N"], [text or "" for text in span.coverage])
        shown = grid.coverage is not None
        for index in span.columns:
            column = _column(grid.headers[index], [row.cells[index] for row in grid.rows])
            added = [column] if shown else [coverage, column]
            if not blocks or used + sum(len(GAP) + part.width for part in added) > room:
                blocks.append([])
                used = 0
                added = [column] if grid.coverage else [coverage, column]
            blocks[-1] += added
            used += sum(len(GAP) + part.width for part in added)
            shown = True
    return blocks


def _legend(grid: Grid) -> str:
    legend = COVERAGE_LEGEND
    if grid.coverage:
        legend = f"Every number stands on {grid.coverage} samples."
    if any(cell and cell.mark for row in grid.rows for cell in row.cells):
        legend += " * best, + second best; arrows point to better."
    return legend


def _block_lines(
    block: Sequence[TextColumn], labels: Sequence[Sequence[str]], label_width: int
) -> list[str]:
    depth = max(len(column.heads) for column in block)
    lines = []
    for level in range(depth):
        parts = [" " * label_width]
        for column in block:
            place = level - (depth - len(column.heads))
            parts.append(column.heads[place] if place >= 0 else " " * column.width)
        lines.append(GAP.join(parts))
    lines.append("─" * escape.display_width(lines[0]))
    for place, label in enumerate(labels):
        cells = [column.cells[place] for column in block]
        lines.append(GAP.join([escape.pad(label[0], label_width), *cells]))
        lines += list(label[1:])
    return lines


def _column(header: Header, cells: Sequence[Cell | None]) -> TextColumn:
    body = _cells(header, cells)
    room = max(WIDEST_HEAD, len(body[0]))
    name = ColumnName.parse(header.column.name)
    unit = f"{escape.plain(header.column.unit)} {header.arrow}".strip()
    heads = [
        *_wrap(escape.plain(name.metric), room),
        *_wrap(f"@{escape.plain(name.protocol)}", room),
        *_wrap(f"[{escape.plain(name.backend)}]", room),
        *([header.tag.strip()] if header.tag else []),
        *_wrap(unit, room),
    ]
    return TextColumn.of(heads, body)


def _cells(header: Header, cells: Sequence[Cell | None]) -> list[str]:
    """Cells of one width in which means, margins and marks each stand below one another."""
    parts = [_parts(header, cell) for cell in cells]
    means, margins = (max(len(part[place]) for part in parts) for place in (0, 1))
    lines = []
    for mean, margin, mark in parts:
        interval = f" ±{margin.rjust(margins)}" if margin else " " * (margins and margins + 2)
        lines.append(f"{mean.rjust(means)}{interval}{mark}")
    return lines


def _parts(header: Header, cell: Cell | None) -> tuple[str, str, str]:
    if cell is None:
        return "", "", " "
    if cell.mean is None:
        return MISSING, "", " "
    margin = "" if cell.margin is None else header.number(cell.margin)
    return header.number(cell.mean), margin, {"": " ", "best": "*", "second": "+"}[cell.mark]


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
