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
from idbench.mean_rank import with_mean_rank
from idbench.metrics.mrank import Ties
from idbench.records import Column
from idbench.set_scores import load_set_aggregates
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
        "--mrank",
        nargs="?",
        const="min",
        choices=get_args(Ties),
        help="add each method's mean rank over the columns; the word is what equal values get "
        "(default min)",
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
    aggregates, columns = load_aggregates(args.runs, suite=args.suite, by=args.by)
    if args.columns:
        columns = choose_columns(columns, args.columns)
    if args.mrank:
        aggregates, columns = with_mean_rank(aggregates, columns, args.mrank)
    sort = args.sort
    if sort not in (None, "label"):
        sort = choose_columns(columns, [sort])[0].name
    style: Style = args.style or SUFFIXES.get(args.output.suffix if args.output else "", "terminal")
    text = render(aggregates, columns, style=style, width=args.width or _width(), sort=sort)
    if args.output:
        write_whole(args.output, text.encode())
        print(args.output)
    else:
        sys.stdout.write(text)
    return 0


def load_scores(runs: Sequence[Path]) -> tuple[pd.DataFrame, list[Column]]:
    """The score frame of runs and the columns that have a value per sample, in order of tables.

    Raises:
        LookupError: If the runs have no such scores.
    """
    frame, columns = load_frame(runs)
    if not columns:
        raise LookupError(
            "these runs have no scores of samples yet; run `idbench score` on them first"
        )
    return frame, in_table_order(columns)


def load_aggregates(
    runs: Sequence[Path], *, suite: str | None = None, by: str | None = None
) -> tuple[pd.DataFrame, list[Column]]:
    """The aggregates of runs and all their columns, those of whole sets (FID) included.

    With `by` there is a table per value of that tag; sets are not split, so they are left out.

    Raises:
        LookupError: If the runs have no scores, or the suite or tag is unknown.
    """
    frame, columns = load_frame(runs)
    sets, set_columns = load_set_aggregates(runs)
    if not columns and not set_columns:
        raise LookupError("these runs have no scores yet; run `idbench score` on them first")
    frame = choose_suite(frame, suite)
    if by:
        return aggregate(stratify(frame, by)), in_table_order(columns)
    if suite is not None:
        sets = sets[sets["suite"] == suite]
    aggregates = aggregate(frame)
    if len(sets):
        aggregates = pd.concat([aggregates, sets], ignore_index=True) if len(aggregates) else sets
    return aggregates, in_table_order([*columns, *set_columns])


def in_table_order(columns: Sequence[Column]) -> list[Column]:
    """Columns by axis, those without a better direction last, then by name."""
    axes = ("preservation", "editability", "text", "quality")
    return sorted(
        columns,
        key=lambda c: (
            axes.index(c.axis),
            c.higher_is_better is None,
            ColumnName.parse(c.name).metric,
            c.name,
            c.fingerprint,
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
    aggregates, known = load_aggregates(runs)
    chosen = known if columns is None else choose_columns(known, columns)
    sys.stdout.write(render(aggregates, chosen, style="terminal", width=_width(), sort=sort))


def write_tables(
    runs: Sequence[Path], stem: Path, columns: Sequence[str] | None = None
) -> list[Path]:
    """Writes the table of runs as `stem`.txt, .md, .csv, .tex and .json; returns the paths."""
    aggregates, known = load_aggregates(runs)
    chosen = known if columns is None else choose_columns(known, columns)
    paths = []
    for suffix in (".txt", ".md", ".csv", ".tex", ".json"):
        path = stem.with_name(stem.name + suffix)
        write_whole(path, render(aggregates, chosen, style=SUFFIXES[suffix]).encode())
        paths.append(path)
    return paths


def _width() -> int:
    return shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80
