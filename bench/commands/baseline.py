"""`idbench baseline save|show`: small files that a gate compares with."""

import argparse
from pathlib import Path

from idbench import escape
from idbench.baseline import load_run, read_baseline, save_baseline


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the verb."""
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    save = verbs.add_parser("save", help="write the scores of a run as a baseline")
    save.add_argument("run", type=Path, metavar="RUN", help="run directory with scores")
    save.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    show = verbs.add_parser("show", help="say what a baseline holds")
    show.add_argument("file", type=Path, metavar="FILE")


def run(args: argparse.Namespace) -> int:
    """Saves or shows."""
    if args.action == "save":
        save_baseline(load_run(args.run), args.output)
        print(f"{args.output}  {args.output.stat().st_size:,} bytes")
        return 0
    baseline = read_baseline(args.file)
    facts = baseline.facts
    print(f"label    {escape.plain(facts.label)}")
    print(f"method   {escape.plain(str(facts.method['name']))}")
    print(f"suite    {facts.suite['name']} version {facts.suite['version']}")
    print(f"seeds    {facts.seed_policy}")
    samples = baseline.frame.drop_duplicates(["case_id", "sample"])
    print(f"samples  {len(samples)} of {samples['identity'].nunique()} identities")
    for column in baseline.columns:
        print(f"column   {escape.plain(column.name)}  {column.fingerprint}")
    return 0
