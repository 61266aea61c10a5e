"""`idbench demo`: every baseline over seven real people; CPU, no network, no downloaded weights."""

import argparse
import sys
from pathlib import Path

from idbench.commands.generate import report as report_generated
from idbench.commands.pareto import draw
from idbench.commands.score import report as report_scored
from idbench.commands.table import print_table, write_tables
from idbench.environment import missing_extras
from idbench.evaluate import ScoreOptions, score
from idbench.generate import GenerateOptions, generate
from idbench.method_spec import MethodSpec
from idbench.prompts.sources import data_root
from idbench.prompts.suites import load_suite

# The corners of the preservation-editability plane that need no weights.
METHODS = (
    MethodSpec(name="copy"),
    MethodSpec(name="crop"),
    MethodSpec(name="mirror"),
    MethodSpec(name="rotate", args={"degrees": 15.0}, label="rotate 15°"),
    MethodSpec(name="colour"),
    MethodSpec(name="blur", args={"sigma": 2.0}, label="blur 2 px"),
    MethodSpec(name="blur", args={"sigma": 4.0}, label="blur 4 px"),
    MethodSpec(name="jpeg", args={"quality": 20}, label="jpeg q20"),
    MethodSpec(name="warp", args={"strength": 0.03}, label="warp 0.03"),
    MethodSpec(name="warp", args={"strength": 0.08}, label="warp 0.08"),
    MethodSpec(name="swap"),
    MethodSpec(name="noise"),
)
METRICS = ("embedded",)
COLUMNS = (
    "facesim@strict",
    "landmarkdiff@ibench",
    "landmarkdiff@strict",
    "posediv.yaw",
    "posediv.pitch",
    "posediv.roll",
    "headpose.yaw",
    "headpose.roll_change",
    "expr_change",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `idbench demo`."""
    parser.add_argument(
        "--output", type=Path, default=Path("runs/demo"), metavar="DIR", help="default runs/demo"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="default one per core")
    parser.add_argument("--batch-size", type=int, metavar="N", help="default 16")


def run(args: argparse.Namespace) -> int:
    """Runs what is missing of the demo, prints the table and the paths of table and plot."""
    missing = missing_extras(["embedded"])
    if missing:
        raise RuntimeError(f"the demo needs {missing[0]}")
    root = data_root()
    suite = load_suite("demo", data_root=root)
    options = GenerateOptions(workspace=args.output, data_root=root, workers=args.workers or 1)
    done = generate(suite, METHODS, options)
    report_generated(done)
    runs = [(entry.directory, suite) for entry in done]
    scoring = ScoreOptions(
        workspace=args.output, data_root=root, workers=args.workers, batch_size=args.batch_size
    )
    report_scored(score(runs, METRICS, scoring))
    directories = [entry.directory for entry in done]
    print_table(directories, COLUMNS)
    for path in [
        *write_tables(directories, args.output / "table", COLUMNS),
        *draw(
            directories, x="facesim@strict", y="landmarkdiff@strict", output=args.output / "pareto"
        ),
    ]:
        print(path, file=sys.stderr)
    return 0
