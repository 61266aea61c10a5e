"""`idbench method check NAME`: whether a method keeps the contract, promise by promise."""

import argparse
import textwrap
from collections.abc import Iterable

from idbench import escape
from idbench.commands.options import key_value
from idbench.methods.conformance.kit import check_named
from idbench.methods.conformance.outcome import Check

MARKS = {True: "pass", False: "FAIL", None: "note"}
WIDTH = 80


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `idbench method`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    summary = "ask a method for small images and check each promise of the contract"
    check = actions.add_parser("check", help=summary, description=summary)
    check.add_argument("name", metavar="NAME", help="as for `idbench run --method`")
    check.add_argument("--method-args", nargs="+", metavar="KEY=VALUE", type=key_value)
    check.add_argument("--device", default="cpu", metavar="NAME")
    check.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    check.add_argument(
        "--tolerance",
        type=int,
        default=0,
        metavar="LEVELS",
        help="difference of a channel (0 to 255) at which images count as equal (default 0)",
    )


def run(args: argparse.Namespace) -> int:
    """Prints each check as it is decided; 0 if all pass, 1 if one fails."""
    checks = check_named(
        args.name,
        dict(args.method_args or []),
        device=args.device,
        dtype=args.dtype,
        tolerance=args.tolerance,
    )
    failed = print_checks(checks)
    print(f"{args.name}: {failed} checks failed" if failed else f"{args.name}: all checks passed")
    return int(failed > 0)


def print_checks(checks: Iterable[Check]) -> int:
    """Prints one line or more per check; returns how many failed."""
    failed = 0
    for check in checks:
        failed += check.passed is False
        head = f"{MARKS[check.passed]}  {check.name:<24}  "
        text = escape.plain(check.detail)
        lines = textwrap.wrap(head + text, WIDTH, subsequent_indent=" " * len(head))
        print("\n".join(lines), flush=True)
    return failed
