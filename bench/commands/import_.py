"""`idbench import LAYOUT PATH`: images that others made, as a run to score and tabulate."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from idbench.escape import plain
from idbench.importing import import_runs
from idbench.prompts.acquisition.network import download, require_online
from idbench.prompts.formats import (
    dreambench_plus,
    editedid,
    fastcomposer,
    ibench,
    multiid_bench,
    table,
)
from idbench.prompts.formats.paths import PathRules, parse_path_map
from idbench.prompts.formats.unit import Problem, Reading
from idbench.prompts.importing import ADHOC, assemble
from idbench.prompts.sources import data_root
from idbench.prompts.suites import load_suite

READERS: dict[str, Callable[[Path, PathRules], Reading]] = {
    "dreambench-plus": dreambench_plus.read,
    "editedid": editedid.read,
    "ibench": ibench.read,
    "multiid-bench": multiid_bench.read,
    "table": table.read,
}
SHOWN = 10  # problems of a kind that are printed one by one


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `idbench import`."""
    parser.add_argument(
        "layout",
        choices=sorted([*READERS, "fastcomposer"]),
        metavar="LAYOUT",
        help="one of %(choices)s",
    )
    parser.add_argument("path", type=Path, help="the list or folder; see the page of the layout")
    parser.add_argument("--method", required=True, metavar="NAME", help="what tables call it")
    parser.add_argument(
        "--suite",
        default=ADHOC,
        metavar="NAME",
        help="map to the cases of this suite (default adhoc: cases from the files themselves)",
    )
    parser.add_argument("--output", type=Path, default=Path("runs"), metavar="DIR")
    parser.add_argument("--copy", action="store_true", help="copy the images instead of linking")
    parser.add_argument(
        "--path-map", action="append", default=[], metavar="OLD=NEW", help="a prefix that moved"
    )
    parser.add_argument("--reference-folder", type=Path, metavar="DIR", help="of fastcomposer")
    parser.add_argument(
        "--base-name",
        default="base",
        metavar="NAME",
        help="what tables call the images without identity (default base)",
    )
    parser.add_argument(
        "--allow-partial", action="store_true", help="import what is there; the rest are misses"
    )
    parser.add_argument(
        "--allow-download", action="store_true", help="fetch images that a list names by address"
    )


def run(args: argparse.Namespace) -> int:
    """Reads, counts, and makes the runs unless files are missing."""
    if not args.path.exists():
        raise FileNotFoundError(f"{args.path} does not exist")
    suite = None if args.suite == ADHOC else load_suite(args.suite, data_root=data_root())
    imported = assemble(_read(args), suite)
    for name, count in imported.counts().items():
        print(f"{name:<18}{count:>9,}", file=sys.stderr)
    for note in imported.notes:
        print(f"note: {plain(note)}", file=sys.stderr)
    _print_problems(imported.problems)
    if imported.problems and not args.allow_partial:
        print(
            "nothing was imported; mend the list, use --path-map OLD=NEW, or import what is there "
            "with --allow-partial",
            file=sys.stderr,
        )
        return 1
    made = import_runs(
        imported,
        workspace=args.output,
        method=args.method,
        layout=args.layout,
        copy=args.copy,
        base_name=args.base_name,
    )
    print(made.directory)
    base = f" --base {made.base}" if made.base else ""
    print(f"score it with: idbench score {made.directory}{base}", file=sys.stderr)
    return 0


def _read(args: argparse.Namespace) -> Reading:
    folder = args.path if args.path.is_dir() else args.path.parent
    rules = PathRules(folder=folder, path_map=parse_path_map(args.path_map))
    if args.allow_download:
        require_online(os.environ, "use a list with paths instead of addresses")
        rules = PathRules(
            folder=folder,
            path_map=rules.path_map,
            fetch=download,
            downloads=args.output / "downloads",
        )
    if args.layout == "fastcomposer":
        if args.reference_folder is None:
            raise ValueError("fastcomposer needs --reference-folder DIR with <six digits>/*.jpg")
        return fastcomposer.read(args.path, rules, reference_folder=args.reference_folder)
    return READERS[args.layout](args.path, rules)


def _print_problems(problems: Iterable[Problem]) -> None:
    by_kind: dict[str, list[Problem]] = {}
    for problem in problems:
        by_kind.setdefault(problem.kind, []).append(problem)
    for kind, entries in by_kind.items():
        for entry in entries[:SHOWN]:
            print(f"{kind}: {plain(entry.where)}: {plain(entry.detail)}", file=sys.stderr)
        if len(entries) > SHOWN:
            print(f"{kind}: and {len(entries) - SHOWN} more", file=sys.stderr)
