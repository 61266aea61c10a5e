"""`idbench compare A B`: paired differences of two runs on the same cases."""

import argparse
import shutil
import sys
from pathlib import Path
from typing import get_args

from idbench.columns import match_columns
from idbench.compare import compare
from idbench.comparison_text import Style, render_comparison
from idbench.files import write_whole
from idbench.store import RunStore, find_runs, load_frame


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
    directories = [_one_run(path) for path in (args.first, args.second)]
    suites, paths = [], []
    for directory in directories:
        with RunStore.open(directory) as store:
            suites.append(store.identity.suite)
            paths.append({(s.case_id, s.sample): s.path for s in store.samples()})
    if suites[0]["sha256"] != suites[1]["sha256"]:
        raise ValueError(
            f"the runs are of different suites: {suites[0]['name']} ({suites[0]['sha256'][:12]}) "
            f"and {suites[1]['name']} ({suites[1]['sha256'][:12]})"
        )
    (first, columns), (second, more) = (load_frame([directory]) for directory in directories)
    known = {(column.name, column.fingerprint): column for column in (*columns, *more)}
    chosen = list(known.values())
    if args.columns:
        names = match_columns(args.columns, [column.name for column in chosen])
        chosen = [column for name in names for column in chosen if column.name == name]
    tags = () if args.by is None else tuple(args.by) or None
    found = compare(first, second, chosen, tags=tags, keep_changes=args.changed)

    def locate(case_id: str, sample: int) -> list[str]:
        images = [found_paths.get((case_id, sample)) for found_paths in paths]
        return [
            str(directory / image) if image else "no image"
            for directory, image in zip(directories, images, strict=True)
        ]

    width = shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80
    style: Style = args.style or "terminal"
    text = render_comparison(found, style=style, width=width, locate=locate)
    if args.output:
        write_whole(args.output, text.encode())
        print(args.output)
    else:
        sys.stdout.write(text)
    return 0


def _one_run(path: Path) -> Path:
    found = find_runs([path])
    if len(found) != 1:
        raise ValueError(f"{path} holds {len(found)} runs; name one: {', '.join(map(str, found))}")
    return found[0]
