"""`idbench score RUN...`: metrics over images that were made or imported."""

import argparse
import sys
from pathlib import Path

from idbench.commands import options
from idbench.config import RunConfig, read_config
from idbench.evaluate import Scored, score
from idbench.importing import SUITE_FOLDER
from idbench.prompts.sources import data_root
from idbench.prompts.suites import Suite, load_suite
from idbench.stopping import stop_on_signals
from idbench.store import RunError, RunStore, find_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `idbench score`."""
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="runs, or folders of runs"
    )
    parser.add_argument(
        "--metrics",
        default="embedded",
        metavar="NAMES",
        help="names of `idbench list metrics`, separated by commas (default embedded)",
    )
    parser.add_argument("--base", metavar="RUN", help="run of the model without identity")
    options.add_compute(parser)


def run(args: argparse.Namespace) -> int:
    """Scores what has no score yet."""
    root = data_root()
    directories = find_runs(args.runs)
    jobs = [(directory, suite_of(directory, root)) for directory in directories]
    workspace = directories[0].parent.parent
    metrics = [name for name in args.metrics.split(",") if name]
    given = {
        key: value
        for key, value in vars(args).items()
        if key in RunConfig.__dataclass_fields__ and value is not None
    }
    # What was generated the runs say; here the configuration only says how to score.
    given |= {"suite": "", "methods": [""], "metrics": metrics, "output": str(workspace)}
    config = read_config(None, given)
    with stop_on_signals() as stop:
        done = score(jobs, metrics, options.score_options(config, stop))
    report(done)
    return 0


def suite_of(directory: Path, root: Path) -> Suite:
    """The suite that a run was made on.

    Raises:
        RunError: If the suite of that name is another one now.
    """
    with RunStore.open(directory) as store:
        recorded = store.identity.suite
    frozen = directory / SUITE_FOLDER  # an imported run carries the suite that it made
    target = frozen if frozen.is_dir() else recorded["target"]
    suite = load_suite(target, data_root=root)
    if suite.sha256 != recorded["sha256"]:
        raise RunError(
            f"{directory} was made on {recorded['name']} {recorded['sha256'][:12]}, here it is "
            f"{suite.sha256[:12]}: its cases changed, generate it again"
        )
    return suite


def report(done: list[Scored]) -> None:
    """Says per run what was scored, on stderr."""
    for entry in done:
        text = (
            f"{entry.scored} samples scored, {entry.kept} kept"
            if entry.scored
            else f"nothing to do, {entry.kept} samples are scored"
        )
        print(f"{entry.directory}: {text}", file=sys.stderr)
