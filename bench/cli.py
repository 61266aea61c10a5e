"""The command line: finds the verb, runs it, and turns faults into one line and an exit code.

Exit codes: 0 done; 1 finished, with failures above the allowed share (or a gate that does not
pass); 2 bad usage or input; 130 stopped from the keyboard.
"""

import argparse
import logging
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Protocol, cast

import idbench
from idbench.escape import plain


class Verb(Protocol):
    """A module of `idbench.commands`."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds the arguments of the verb."""
        ...

    def run(self, args: argparse.Namespace) -> int:
        """Does it; returns the exit code. May raise ValueError, LookupError or OSError."""
        ...


# verb -> (module, one line of help); a module is imported only when its verb is used.
VERBS = {
    "demo": ("idbench.commands.demo", "every baseline over seven real people: table and plot"),
    "plan": ("idbench.commands.plan", "what a campaign would cost on a cluster: hours, storage"),
    "run": ("idbench.commands.run", "generate, score and tabulate, from a YAML file or flags"),
    "generate": ("idbench.commands.generate", "make the images of a method over a suite"),
    "score": ("idbench.commands.score", "score the images of runs"),
    "judge": ("idbench.commands.judge", "score with a vision-language model of your choice"),
    "table": ("idbench.commands.table", "tabulate the scores of runs"),
    "pareto": ("idbench.commands.pareto", "plot preservation against editability"),
    "sweep": ("idbench.commands.sweep", "a method over the values of one parameter, as a curve"),
    "report": ("idbench.commands.report", "a page with tables, fronts and every picture"),
    "compare": ("idbench.commands.compare", "paired differences of two runs on the same cases"),
    "baseline": ("idbench.commands.baseline", "save a run as a small file that a gate reads"),
    "gate": ("idbench.commands.gate", "pass or fail a run against a baseline; for CI"),
    "reproduce": ("idbench.commands.reproduce", "printed tables of papers beside measured rows"),
    "claims": ("idbench.commands.claims", "sentences of papers, re-derived from the numbers"),
    "train": ("idbench.commands.train", "train the part of a method that its paper trains"),
    "fuse": ("idbench.commands.fuse", "trained weights of several runs into one file (EditIDv2)"),
    "restore": ("idbench.commands.restore", "restore the faces of an edited image"),
    "merge": ("idbench.commands.merge", "join the shards of runs"),
    "export": ("idbench.commands.export", "write the scores of runs as CSV, JSON or Parquet"),
    "log": ("idbench.commands.log", "aggregates of runs into Weights & Biases or MLflow"),
    "import": ("idbench.commands.import_", "images that others made, as a run to score"),
    "data": ("idbench.commands.data", "list, fetch, verify, import and build the data of suites"),
    "calibrate": ("idbench.commands.calibrate", "do metrics move as they claim? on real faces"),
    "weights": ("idbench.commands.weights", "list, fetch, verify and import network weights"),
    "list": ("idbench.commands.list", "list methods, suites or metrics"),
    "method": ("idbench.commands.method", "check a method against the contract"),
    "perf": ("idbench.commands.perf", "measure speed and memory, to repeat on your machine"),
    "torture": ("idbench.commands.torture", "kill, fill and damage on purpose: is anything lost?"),
    "doctor": ("idbench.commands.doctor", "what is installed here, and what is missing"),
}


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {summary}" for verb, (_, summary) in VERBS.items())
    parser = argparse.ArgumentParser(
        prog="idbench",
        description="Benchmarks identity-preserving image generation.",
        epilog=f"verbs:\n{verbs}\n\n`idbench VERB --help` explains one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"idbench {idbench.__version__}")
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    parser.add_argument("verb", choices=VERBS, metavar="VERB", help="what to do, see below")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # The verb's own arguments are read by its own parser, so that no other verb is imported.
    place = next((i for i, word in enumerate(arguments) if not word.startswith("-")), None)
    head = arguments if place is None else arguments[: place + 1]
    chosen = _parser().parse_args(head)
    logging.basicConfig(
        level=logging.INFO if chosen.debug else logging.ERROR, format="%(levelname)s %(message)s"
    )
    verb = cast(Verb, import_module(VERBS[chosen.verb][0]))
    parser = argparse.ArgumentParser(
        prog=f"idbench {chosen.verb}", description=VERBS[chosen.verb][1]
    )
    verb.add_arguments(parser)
    args = parser.parse_args(arguments[len(head) :])
    try:
        return verb.run(args)
    except (KeyError, IndexError):
        raise  # faults of ours; the LookupErrors that are meant for people are neither
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        sys.stdout = None
        return 0
    except (LookupError, ValueError, OSError, RuntimeError, ImportError) as error:
        if chosen.debug:
            traceback.print_exc()
        # A message may quote what a file of others holds; lines are ours, control characters not.
        lines = [plain(line) for line in str(error).split("\n")]
        print(f"idbench {chosen.verb}: error: " + "\n".join(lines), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130
