"""`idbench sweep`: a method over the values of one of its parameters, as table and curve."""

import argparse
import sys
from pathlib import Path

from idbench.commands import options
from idbench.commands.generate import exit_code
from idbench.commands.pareto import draw
from idbench.commands.run import generate_and_score
from idbench.commands.table import print_table
from idbench.config import read_config
from idbench.method_spec import MethodSpec
from idbench.methods.registry import method_parameters
from idbench.prompts.sources import data_root
from idbench.prompts.suites import load_suite
from idbench.sweeps import parse_sweep


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the verb."""
    options.add_generate(parser)
    parser.add_argument(
        "--over",
        required=True,
        metavar="PARAMETER=FROM:TO:STEP",
        help="numeric parameter of the method and its values, both ends included; or V1,V2,V3",
    )
    parser.add_argument(
        "--metrics",
        type=lambda text: [name for name in text.split(",") if name],
        metavar="NAMES",
        help="names of `idbench list metrics`, separated by commas (default embedded)",
    )
    parser.add_argument("--base", metavar="RUN", help="run of the model without identity")
    parser.add_argument("--columns", nargs="+", metavar="NAME", help="columns of the table")
    parser.add_argument("--x", metavar="COLUMN", help="draw the curve: preservation")
    parser.add_argument("--y", metavar="COLUMN", help="draw the curve: editability")


def run(args: argparse.Namespace) -> int:
    """Does what is missing, prints the table, draws the curve if axes are given."""
    if bool(args.x) != bool(args.y):
        raise ValueError("a curve needs both --x and --y")
    config = read_config(args.config, options.flags(args))
    given = config.method_specs()
    if len(given) != 1:
        raise ValueError(f"a sweep is over one method, got {len(given)}")
    (method,) = given
    sweep = parse_sweep(args.over, method_parameters(method.name), method=method.name)
    if sweep.parameter in method.args:
        raise ValueError(f"--method-args and --over both set {sweep.parameter}")
    specs = [
        MethodSpec(name=method.name, args={**method.args, sweep.parameter: value})
        for value in sweep.values
    ]
    suite = load_suite(config.suite, data_root=data_root())
    done = generate_and_score(config, suite, specs)
    directories = [entry.directory for entry in done]
    print_table(directories, args.columns, sort="label")
    if args.x:
        name = f"sweep-{method.name.partition(':')[0]}-{sweep.parameter}"
        for path in draw(directories, x=args.x, y=args.y, output=Path(config.output) / name):
            print(path, file=sys.stderr)
    return exit_code(done, config.max_failures)
