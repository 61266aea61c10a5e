"""`idbench perf WHAT`: measurements that a user can repeat on their own machine."""

import argparse
from importlib import import_module
from typing import Protocol, cast


class Measurement(Protocol):
    """A module that measures one thing."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds the arguments of this measurement."""
        ...

    def measure(self, args: argparse.Namespace) -> str:
        """Measures and returns what to print. A wrong argument is a ValueError."""
        ...


# name -> (module with `add_arguments` and `measure`, one line of help)
MEASUREMENTS = {
    "score": (
        "idbench.perf_score",
        "scoring beside the original's loop per metric, on the same networks",
    ),
    "plan": (
        "idbench.perf_plan",
        "seconds and memory to build, load, list and plan a suite of 100,000 cases",
    ),
    "table": (
        "idbench.perf_table",
        "seconds and memory to load, aggregate and print a million score rows",
    ),
    "method": (
        "idbench.perf_method",
        "seconds per step and peak memory of a method, beside its plain base model",
    ),
    "solver": (
        "idbench.perf_solver",
        "how far EditedID's solver strays, beside DDIM, DPM-Solver++ and a broken schedule",
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds one subcommand per measurement; their modules import torch only to measure."""
    subparsers = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    for name, (module, summary) in MEASUREMENTS.items():
        child = subparsers.add_parser(name, help=summary, description=summary)
        cast(Measurement, import_module(module)).add_arguments(child)


def run(args: argparse.Namespace) -> int:
    """Runs the chosen measurement and prints its result."""
    print(cast(Measurement, import_module(MEASUREMENTS[args.what][0])).measure(args))
    return 0
