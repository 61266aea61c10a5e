"""`idbench run`: generate, score and tabulate."""

import argparse

from idbench.commands import options
from idbench.commands.generate import exit_code
from idbench.commands.generate import report as report_generated
from idbench.commands.score import report as report_scored
from idbench.commands.table import print_table
from idbench.config import read_config
from idbench.evaluate import score
from idbench.generate import generate
from idbench.metrics.registry import resolve
from idbench.prompts.sources import data_root
from idbench.prompts.suites import load_suite


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


def run(args: argparse.Namespace) -> int:
    """Does what is missing and prints the table; 1 if more samples failed than allowed."""
    config = read_config(args.config, options.flags(args))
    resolve(config.metrics)  # a wrong name is said before anything is made
    suite = load_suite(config.suite, data_root=data_root())
    done = generate(suite, config.method_specs(), options.generate_options(config))
    report_generated(done)
    runs = [(entry.directory, suite) for entry in done]
    report_scored(score(runs, config.metrics, options.score_options(config)))
    print_table([entry.directory for entry in done])
    return exit_code(done, config.max_failures)
