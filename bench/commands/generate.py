"""`idbench generate`: the images of methods over a suite."""

import argparse
import sys
from collections.abc import Sequence

from idbench import escape
from idbench.commands import options
from idbench.config import read_config
from idbench.generate import Generated, generate
from idbench.generation_worker import KEPT
from idbench.methods.wrappers.spending import LEDGER, spent_in
from idbench.prompts.sources import data_root
from idbench.prompts.suites import load_suite
from idbench.stopping import stop_on_signals

REASONS_SHOWN = 3
DETAIL_SHOWN = 300


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `idbench generate`."""
    options.add_generate(parser)


def run(args: argparse.Namespace) -> int:
    """Makes what is missing; 1 if more samples failed than allowed."""
    config = read_config(args.config, options.flags(args))
    suite = load_suite(config.suite, data_root=data_root())
    with stop_on_signals() as stop:
        done = generate(suite, config.method_specs(), options.generate_options(config, stop))
    report(done)
    return exit_code(done, config.max_failures)


def report(done: Sequence[Generated]) -> None:
    """Says per run what was made, on stderr."""
    for entry in done:
        if not entry.made and not entry.failed:
            text = f"nothing to do, {entry.kept} images are there"
        else:
            text = f"{entry.made} made, {entry.kept} kept"
        if entry.all_failed:
            text += f", {entry.all_failed} failed (--retry-failed tries them again)"
        spent = spent_in(entry.directory / KEPT / LEDGER)
        if spent is not None:
            text += f", {spent:.2f} spent on this run so far"
        print(f"{entry.directory}: {text}", file=sys.stderr)
        for (reason, detail), count in entry.reasons.most_common(REASONS_SHOWN):
            line = escape.plain(detail or "")
            print(f"  {count} x {escape.plain(reason)}: {line[:DETAIL_SHOWN]}", file=sys.stderr)


def exit_code(done: Sequence[Generated], max_failures: float) -> int:
    """0, or 1 if the share of failed samples of any run is above `max_failures`."""
    shares = [
        entry.all_failed / max(1, entry.made + entry.kept + entry.all_failed) for entry in done
    ]
    return int(any(share > max_failures for share in shares))
