"""`idbench merge`: joins the shards of runs, or runs made on several machines."""

import argparse
import sys
from pathlib import Path

from idbench.merge import merge
from idbench.store import SHARDS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `idbench merge`."""
    parser.add_argument("workspace", type=Path, metavar="DIR", help="where the whole runs go")
    parser.add_argument(
        "parts",
        nargs="*",
        type=Path,
        metavar="PART",
        help=f"runs or folders of runs (default: the shards in DIR/{SHARDS})",
    )


def run(args: argparse.Namespace) -> int:
    """Merges; a second time there is nothing to do."""
    parts = args.parts or sorted((args.workspace / SHARDS).glob("*-of-*"))
    if not parts:
        raise ValueError(f"there are no shards in {args.workspace / SHARDS}; name the parts")
    for entry in merge(args.workspace, parts):
        text = f"{entry.samples} samples and {entry.scores} scores taken"
        print(f"{entry.directory}: {text}", file=sys.stderr)
    return 0
