"""`idbench table`: scores of runs as a table."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import pandas as pd

from idbench.aggregate import aggregate
from idbench.columns import ColumnName, match_columns
from idbench.files import write_whole
from idbench.records import Column
from idbench.store import load_frame
from idbench.strata import stratify
from idbench.tables import Style, render

SUFFIXES: dict[str, Style] = {
    ".md": "markdown",
    ".csv": "csv",
    ".tex": "latex",
    ".json": "json",
    ".txt": "terminal",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the verb."""
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="run directories, or a workspace of runs"
    )
    parser.add_argument(
        "--columns",
        nargs="+",
        metavar="NAME",
        help="which columns, in this order; short names such as facesim or posediv.yaw@strict "
        "where unambiguous; NAME* for all that begin so (default all)",
    )
    parser.add_argument("--suite", metavar="NAME", help="only this suite (default all)")
    parser.add_argument(
        "--by", metavar="TAG", help="a table per value of a tag, such as difficulty or expression"
    )
    parser.add_argument(
        "--style",
        choices=get_args(Style),
        help="format (default: by the suffix of --output, else terminal)",
    )
    parser.add_argument(
        "--sort", metavar="NAME", help="column to sort by, or label (default: the first column)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write here, not to the screen")
    parser.add_argument(
        "--width", type=int, metavar="N", help="width of the terminal style (default: the screen's)"
    )


def run(args: argparse.Namespace) -> int:
    """Prints or writes the table."""
    frame, columns = load_scores(args.runs)
    frame = choose_suite(frame, args.suite)
    if args.by:
        frame = stratify(frame, args.by)
    if args.columns:
        columns = choose_columns(columns, args.columns)
    sort = args.sort
    if sort not in (None, "label"):
        sort = choose_columns(columns, [sort])[0].name
    style: Style = args.style or SUFFIXES.get(args.output.suffix if args.output else "", "terminal")
    text = render(aggregate(frame), columns, style=style, width=args.width or _width(), sort=sort)
    if args.output:
        write_whole(args.output, text.encode())
        print(args.output)
    else:
        sys.stdout.write(text)
    return 0


def load_scores(runs: Sequence[Path]) -> tuple[pd.DataFrame, list[Column]]:
    """The score frame of runs and its columns, in the order of tables.

    That is by axis, those without a better direction last, then by name.

    Raises:
        LookupError: If the runs have no scores.
    """
    frame, columns = load_frame(runs)
    if not columns:
        raise LookupError("these runs have no scores yet; run `idbench score` on them first")
    axes = ("preservation", "editability", "text", "quality")
    return frame, sorted(
        columns,
        key=lambda c: (
            axes.index(c.axis),
            c.higher_is_better is None,
            ColumnName.parse(c.name).metric,
            c.name,
        ),
    )


def choose_suite(frame: pd.DataFrame, suite: str | None) -> pd.DataFrame:
    """The rows of one suite, or all for None.

    Raises:
        LookupError: If no run is of this suite.
    """
    if suite is None:
        return frame
    known = sorted(frame["suite"].unique())
    if suite not in known:
        raise LookupError(f"no run of suite {suite!r}; known: {', '.join(known)}")
    return frame[frame["suite"] == suite]


def choose_columns(columns: Sequence[Column], requested: Sequence[str]) -> list[Column]:
    """The columns that full or short names stand for, in the order of the request.

    Raises:
        LookupError: If a name is unknown or ambiguous.
    """
    order = match_columns(requested, [column.name for column in columns])
    chosen = [column for column in columns if column.name in order]
    return sorted(chosen, key=lambda column: order.index(column.name))


def print_table(
    runs: Sequence[Path], columns: Sequence[str] | None = None, *, sort: str | None = None
) -> None:
    """Prints the table of runs; `columns` are full or short names, None means all."""
    frame, known = load_scores(runs)
    chosen = known if columns is None else choose_columns(known, columns)
    sys.stdout.write(render(aggregate(frame), chosen, style="terminal", width=_width(), sort=sort))


def write_tables(
    runs: Sequence[Path], stem: Path, columns: Sequence[str] | None = None
) -> list[Path]:
    """Writes the table of runs as `stem`.txt, .md, .csv, .tex and .json; returns the paths."""
    frame, known = load_scores(runs)
    chosen = known if columns is None else choose_columns(known, columns)
    aggregates = aggregate(frame)
    paths = []
    for suffix in (".txt", ".md", ".csv", ".tex", ".json"):
        path = stem.with_name(stem.name + suffix)
        write_whole(path, render(aggregates, chosen, style=SUFFIXES[suffix]).encode())
        paths.append(path)
    return paths


def _width() -> int:
    return shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80
