"""`idbench run`: generate, score and tabulate."""

import argparse
from collections.abc import Sequence

from idbench.commands import options
from idbench.commands.generate import exit_code
from idbench.commands.generate import report as report_generated
from idbench.commands.score import report as report_scored
from idbench.commands.table import print_table
from idbench.config import RunConfig, read_config
from idbench.evaluate import score
from idbench.generate import Generated, generate
from idbench.method_spec import MethodSpec
from idbench.metrics.registry import resolve
from idbench.overlap import ScoringAhead
from idbench.prompts.sources import data_root
from idbench.prompts.suites import Suite, load_suite
from idbench.stopping import stop_on_signals


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `idbench run`."""
    options.add_generate(parser)
    parser.add_argument(
        "--metrics",
        type=lambda text: [name for name in text.split(",") if name],
        metavar="NAMES",
        help="names of `idbench list metrics`, separated by commas (default embedded)",
    )
    parser.add_argument("--base", metavar="RUN", help="run of the model without identity")
    parser.add_argument(
        "--overlap",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="score images while others are made (default: on several devices, and on Ray with "
        "GPUs)",
    )


def run(args: argparse.Namespace) -> int:
    """Does what is missing and prints the table; 1 if more samples failed than allowed."""
    config = read_config(args.config, options.flags(args))
    resolve(config.metrics)  # a wrong name is said before anything is made
    suite = load_suite(config.suite, data_root=data_root())
    done = generate_and_score(config, suite, config.method_specs())
    print_table([entry.directory for entry in done])
    return exit_code(done, config.max_failures)


def generate_and_score(
    config: RunConfig, suite: Suite, methods: Sequence[MethodSpec]
) -> list[Generated]:
    """Makes and scores what is missing, one after the other or at the same time, and reports.

    The first interrupt finishes what has begun.
    """
    with stop_on_signals() as stop:
        scoring = options.score_options(config, stop)
        generating = options.generate_options(config, stop)
        # Images that still lie on nodes cannot be read yet.
        if config.scores_ahead() and generating.node_store is None:
            with ScoringAhead(suite, config.metrics, scoring) as ahead:
                done = generate(suite, methods, generating, ahead.recorded)
        else:
            done = generate(suite, methods, generating)
        report_generated(done)
        runs = [(entry.directory, suite) for entry in done]
        report_scored(score(runs, config.metrics, scoring))
    return done
