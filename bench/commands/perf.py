"""`idbench perf [WHAT]`: measurements that a user can repeat on their own machine."""

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from idbench.perf_method import BENCHMARKS
from idbench.perf_record import Measured, side_by_side, write_record


class Measurement(Protocol):
    """A module that measures one thing."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds the arguments of this measurement."""
        ...

    def measure(self, args: argparse.Namespace) -> Measured | str:
        """Measures; a text alone has no values. A wrong argument is a ValueError."""
        ...


# name -> (module with `add_arguments` and `measure`, one line of help)
MEASUREMENTS = {
    "engine": (
        "idbench.perf_engine",
        "the engine beside a bare loop, and 1 to 8 workers, with a simulated generator",
    ),
    "growth": (
        "idbench.perf_growth",
        "seconds and memory of plan, resume and table up to a million samples",
    ),
    "plan": (
        "idbench.perf_plan",
        "seconds and memory to build, load, list and plan a suite of 100,000 cases",
    ),
    "table": (
        "idbench.perf_table",
        "seconds and memory to load, aggregate and print a million score rows",
    ),
    "ray": (
        "idbench.perf_ray",
        "64 simulated workers on Ray over 100,000 samples while one dies every second",
    ),
    "score": (
        "idbench.perf_score",
        "scoring beside the original's loop per metric, on the same networks",
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

FOLDER = Path("results/perf")

# Without WHAT: every benchmark in a form that a laptop ends in a few minutes.
SHORT: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("engine", "engine", ("--samples", "10", "--workers", "1", "8", "--repeats", "1")),
    ("growth", "growth", ("--samples", "10000", "100000")),
    ("plan", "plan", ("--cases", "20000")),
    ("table", "table", ("--rows", "100000")),
    ("ray", "ray", ("--workers", "4", "--samples", "2000", "--kill-every", "5")),
    ("score", "score", ("--tiny", "--identities", "1", "--prompts", "2", "--side", "256")),
    *((f"method-{name}", "method", (name, "--steps", "4")) for name in sorted(BENCHMARKS)),
    ("solver", "solver", ("--seeds", "3")),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds one subcommand per measurement; their modules import torch only to measure."""
    _add_output(parser, None)
    subparsers = parser.add_subparsers(
        dest="what", metavar="WHAT", help="default: all of them, in a short form"
    )
    for name, (module, summary) in MEASUREMENTS.items():
        child = subparsers.add_parser(name, help=summary, description=summary)
        _measurement(module).add_arguments(child)
        _add_output(child, argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Runs what was chosen and prints the results; 1 if one of all could not be run."""
    if args.what is not None:
        measured = _measure(_measurement(MEASUREMENTS[args.what][0]), args)
        print(measured.text)
        if args.output is not None:
            name = f"method-{args.name}" if args.what == "method" else args.what
            print(_write(args.output, name, measured, args), file=sys.stderr)
        return 0
    folder = args.output or FOLDER
    failures: dict[str, str] = {}
    found: dict[str, Measured] = {}
    for name, what, arguments in SHORT:
        module = _measurement(MEASUREMENTS[what][0])
        parser = argparse.ArgumentParser()
        module.add_arguments(parser)
        chosen = parser.parse_args(arguments)
        print(f"{name} ...", file=sys.stderr)
        start = time.monotonic()
        try:
            found[name] = _measure(module, chosen)
        except (ImportError, OSError, LookupError, ValueError, RuntimeError) as error:
            failures[name] = f"{error}".splitlines()[0] if str(error) else type(error).__name__
            continue
        print(f"{name}: {time.monotonic() - start:.1f} s", file=sys.stderr)
        _write(folder, name, found[name], chosen)
    print(side_by_side({name: measured.text for name, measured in found.items()}))
    for name, reason in failures.items():
        print(f"{name}: not measured: {reason}")
    print(f"\nvalues and the machine: {folder}/*.json")
    return int(bool(failures))


def _measure(module: Measurement, args: argparse.Namespace) -> Measured:
    measured = module.measure(args)
    return Measured(text=measured) if isinstance(measured, str) else measured


def _measurement(module: str) -> Measurement:
    return cast(Measurement, import_module(module))


def _add_output(parser: argparse.ArgumentParser, default: str | None) -> None:
    # Both parsers take it; the inner one must not undo what the outer one was given.
    parser.add_argument(
        "--output",
        type=Path,
        default=default,
        metavar="DIR",
        help=f"folder for a JSON file per benchmark (default {FOLDER} for all, none for one)",
    )


def _write(folder: Path, name: str, measured: Measured, args: argparse.Namespace) -> Path:
    own = ("what", "output", "verb")
    arguments = {key: value for key, value in vars(args).items() if key not in own}
    return write_record(folder, name, measured, arguments, getattr(args, "device", "cpu"))
