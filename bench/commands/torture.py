"""`idbench torture`: faults on purpose, on your own machine and file system."""

import argparse
from pathlib import Path

from idbench.faults.torture import CASES, Effort, summary, torture


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `idbench torture`."""
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("torture"),
        metavar="DIR",
        help="a folder on the file system to be tested (default torture)",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=15.0,
        metavar="N",
        help="begin nothing new after this time; the same command goes on (default 15)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the chances")
    parser.add_argument(
        "--kills", type=int, default=200, metavar="N", help="processes to kill (default 200)"
    )
    parser.add_argument(
        "--times", type=int, default=3, metavar="N", help="how often the others (default 3)"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="CASE", default=[], help=f"of {', '.join(CASES)}"
    )


def run(args: argparse.Namespace) -> int:
    """Prints a line per case; 1 if one failed or was not run."""
    if args.kills < 4 or args.times < 1 or args.minutes <= 0:
        raise ValueError("--kills must be at least 4, --times at least 1, --minutes above 0")
    results = torture(
        args.output,
        seed=args.seed,
        minutes=args.minutes,
        effort=Effort(kills=args.kills, times=args.times),
        only=args.only,
        told=lambda line: print(line, flush=True),
    )
    print(summary(results))
    return int(any(result.outcome in ("failed", "not run") for result in results))
