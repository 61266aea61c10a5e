"""`idbench compare A B`: paired differences of two runs on the same cases."""

import argparse
import shutil
import sys
from pathlib import Path
from typing import get_args

from idbench.baseline import load_run
from idbench.columns import match_columns
from idbench.compare import compare
from idbench.comparison_text import Style, render_comparison
from idbench.files import write_whole
from idbench.store import RunStore, find_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the verb."""
    parser.add_argument("first", type=Path, metavar="A", help="run directory")
    parser.add_argument("second", type=Path, metavar="B", help="run directory on the same suite")
    parser.add_argument(
        "--columns", nargs="+", metavar="NAME", help="which columns, full or short (default all)"
    )
    parser.add_argument(
        "--by", nargs="*", metavar="TAG", help="break down by these tags; alone: by every tag"
    )
    parser.add_argument(
        "--changed", type=int, default=3, metavar="N", help="most changed cases to list (default 3)"
    )
    parser.add_argument("--style", choices=get_args(Style), help="format (default terminal)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write here, not to the screen")


def run(args: argparse.Namespace) -> int:
    """Prints or writes the comparison."""
    first, second = load_run(args.first), load_run(args.second)
    suites = [side.facts.suite for side in (first, second)]
    if suites[0]["sha256"] != suites[1]["sha256"]:
        raise ValueError(
            f"the runs are of different suites: {suites[0]['name']} ({suites[0]['sha256'][:12]}) "
            f"and {suites[1]['name']} ({suites[1]['sha256'][:12]})"
        )
    images = [_images(path) for path in (args.first, args.second)]
    known = {(c.name, c.fingerprint): c for c in (*first.columns, *second.columns)}
    chosen = list(known.values())
    if args.columns:
        names = match_columns(args.columns, [column.name for column in chosen])
        chosen = [column for name in names for column in chosen if column.name == name]
    tags = () if args.by is None else tuple(args.by) or None
    found = compare(first.frame, second.frame, chosen, tags=tags, keep_changes=args.changed)

    def locate(case_id: str, sample: int) -> list[str]:
        return [str(paths.get((case_id, sample), "no image")) for paths in images]

    width = shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80
    style: Style = args.style or "terminal"
    text = render_comparison(found, style=style, width=width, locate=locate)
    if args.output:
        write_whole(args.output, text.encode())
        print(args.output)
    else:
        sys.stdout.write(text)
    return 0


def _images(path: Path) -> dict[tuple[str, int], Path]:
    (directory,) = find_runs([path])
    with RunStore.open(directory) as store:
        return {
            (sample.case_id, sample.sample): directory / sample.path
            for sample in store.samples()
            if sample.path is not None
        }
