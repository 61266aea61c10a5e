"""`idbench log wandb|mlflow RUN...`: aggregates of runs into a tracker."""

import argparse
import dataclasses
from pathlib import Path
from typing import get_args

from idbench import escape
from idbench.commands.table import load_aggregates
from idbench.store import RunStore, find_runs
from idbench.tracking import Tracker, log_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the verb."""
    parser.add_argument("tracker", choices=get_args(Tracker), help="where the numbers go")
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="run directories, or a workspace of runs"
    )
    parser.add_argument("--project", default="idbench", metavar="NAME", help="or experiment")


def run(args: argparse.Namespace) -> int:
    """Logs each run."""
    for directory in find_runs(args.runs):
        with RunStore.open(directory) as store:
            facts = dataclasses.asdict(store.identity)
        aggregates, _ = load_aggregates([directory])
        log_run(args.tracker, aggregates, facts, project=args.project)
        print(f"{args.tracker} {args.project}: {escape.plain(facts['label'])}")
    return 0
