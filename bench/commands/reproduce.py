"""`idbench reproduce [PAPER:TABLE]`: printed rows beside measured ones."""

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import pandas as pd

from idbench import reproduction_text as text
from idbench.aggregate import AGGREGATE_FRAME
from idbench.commands.table import load_aggregates
from idbench.files import write_whole
from idbench.paper_tables import PublishedTable, find_table, load_tables
from idbench.prompts.sources import data_root
from idbench.reproduction import Reproduction, reproduce
from idbench.requirements import needs_of_row
from idbench.store import RunStore, find_runs

# Arguments that say where things lie or how long to wait, not what is run.
PLACES = {"cwd", "dir", "folders", "program", "start_timeout", "timeout", "weights"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the verb."""
    parser.add_argument(
        "table", nargs="?", metavar="PAPER:TABLE", help="such as editidv2:table1 (default: list)"
    )
    parser.add_argument(
        "runs", nargs="*", type=Path, metavar="RUN", help="runs, or folders of runs, that fill rows"
    )
    add_rows(parser)
    parser.add_argument("--style", choices=get_args(text.Style), help="format (default terminal)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write here, not to the screen")


def add_rows(parser: argparse.ArgumentParser) -> None:
    """Adds how runs are set beside printed rows."""
    parser.add_argument(
        "--row",
        action="append",
        default=[],
        metavar="NAME=RUN",
        help="fill this printed row with this run, whatever its method (a label or a folder name)",
    )


def run(args: argparse.Namespace) -> int:
    """Lists the tables or prints one."""
    width = shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80
    if args.table is None:
        sys.stdout.write(text.list_tables(list(load_tables().values()), width))
        return 0
    table = find_table(args.table)
    found = measure(table, args.runs, args.row)
    style: text.Style = args.style or "terminal"
    if style == "terminal":
        filled = {cell.row for cell in found.cells if cell.measured}
        rows = [row for row in table.cells if row not in filled] if table.measurable else []
        needs = {row: needs_of_row(table, row, data_root()) for row in rows}
        out = text.terminal(found, needs, width)
    else:
        out = {"markdown": text.markdown, "csv": text.as_csv, "json": text.as_json}[style](found)
    if args.output:
        write_whole(args.output, out.encode())
        print(args.output)
    else:
        sys.stdout.write(out)
    return 0


def measure(table: PublishedTable, paths: Sequence[Path], given: Sequence[str]) -> Reproduction:
    """A table with the rows that runs fill: by `NAME=RUN`, else by the method of the row.

    Raises:
        LookupError: If a row or run is unknown.
        ValueError: If `given` is not NAME=RUN, or two runs could fill a row.
    """
    if not paths:
        if given:
            raise ValueError("--row needs the runs it names; give run directories after the table")
        empty = pd.DataFrame(columns=list(AGGREGATE_FRAME)).astype(AGGREGATE_FRAME)
        return reproduce(table, empty, [], {})
    aggregates, columns = load_aggregates(paths)
    rows = _by_method(table, paths) | _by_name(given, aggregates)
    return reproduce(table, aggregates, columns, rows)


def _by_method(table: PublishedTable, paths: Sequence[Path]) -> dict[str, str]:
    """Printed row to run, for runs of the row's method with its arguments on the table's suite."""
    rows: dict[str, str] = {}
    for directory in find_runs(paths):
        with RunStore.open(directory) as store:
            identity = store.identity
        if identity.suite["name"] != table.suite:
            continue
        for row, source in table.rows.items():
            given: Mapping[str, object] = identity.method.get("args") or {}
            same = {key: value for key, value in given.items() if key not in PLACES}
            if source.method == identity.method["name"] and dict(source.args) == same:
                if row in rows:
                    raise ValueError(
                        f"{rows[row]} and {directory.name} could both fill {row!r}; "
                        f"say which with --row '{row}=RUN'"
                    )
                rows[row] = directory.name
    return rows


def _by_name(given: Sequence[str], aggregates: pd.DataFrame) -> dict[str, str]:
    rows = {}
    for entry in given:
        row, sign, name = entry.rpartition("=")
        if not sign or not row:
            raise ValueError(f"--row takes NAME=RUN, got {entry!r}")
        match = aggregates[(aggregates["run"] == name) | (aggregates["label"] == name)]
        runs = sorted(set(match["run"]))
        if len(runs) != 1:
            known = ", ".join(sorted(set(aggregates["label"])))
            raise LookupError(
                f"--row {entry!r}: {len(runs)} runs are called {name!r}; known: {known}"
            )
        rows[row] = runs[0]
    return rows
