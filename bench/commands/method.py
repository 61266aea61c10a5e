"""`idbench method check|explain|survey|program NAME`: its contract, its inside, its program."""

import argparse
import tempfile
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import cast

from idbench import escape
from idbench.commands.options import key_value
from idbench.generate import sample_seed
from idbench.methods.conformance.kit import check_named
from idbench.methods.conformance.outcome import Check
from idbench.methods.protocol import Method, Request
from idbench.methods.recipes.catalogue import TARGET as RECIPE_METHOD
from idbench.methods.registry import build, list_methods, method_info
from idbench.prompts.materialise import materialise
from idbench.prompts.sources import data_root
from idbench.prompts.suites import load_suite
from idbench.requests import build_request

MARKS = {True: "pass", False: "FAIL", None: "note"}
WIDTH = 80

# name -> "module:function". The function writes pictures, tables and text of what happens inside
# for a request into a folder, and returns their paths. Text (.txt) is printed too.
Explainer = Callable[[Method, Request, Path], Sequence[Path]]
EXPLAINERS = {
    "dynamicid": "idbench.methods.dynamicid.explain:write_explanation",
    "flexid": "idbench.methods.flexid.explain:write_explanation",
}
# name -> "module:function". The function says what a method decides over many prompts.
Surveyor = Callable[[Method, Sequence[str]], str]
SURVEYORS = {"flexid": "idbench.methods.flexid.survey:describe_survey"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `idbench method`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    summary = "ask a method for small images and check each promise of the contract"
    check = _action(actions, "check", summary)
    check.add_argument(
        "--tiny",
        action="store_true",
        help="over small random weights, written for the check: for recipes of diffusers",
    )
    check.add_argument(
        "--tolerance",
        type=int,
        default=0,
        metavar="LEVELS",
        help="difference of a channel (0 to 255) at which images count as equal (default 0)",
    )
    summary = "print a program to start from, for a method of others, and what to install"
    program = actions.add_parser("program", help=summary, description=summary)
    program.add_argument("name", metavar="NAME", help="a command recipe, or program:FILE.yaml")
    summary = f"show what happens inside a method; for {', '.join(EXPLAINERS)}"
    explain = _action(actions, "explain", summary)
    explain.add_argument("prompt", nargs="?", help="instead of that of the case")
    explain.add_argument(
        "--suite", default="tiny-single", metavar="NAME", help="default %(default)s"
    )
    explain.add_argument("--case", metavar="ID", help="case id (default: the first of the suite)")
    explain.add_argument(
        "--output", type=Path, default=Path("explained"), metavar="DIR", help="default ./explained"
    )
    summary = f"show what a method decides over many prompts; for {', '.join(SURVEYORS)}"
    survey = _action(actions, "survey", summary)
    survey.add_argument(
        "--suite", default="tiny-long", metavar="NAME", help="its prompts (default %(default)s)"
    )
    survey.add_argument(
        "--prompts", type=Path, metavar="FILE", help="one prompt per line, instead of a suite"
    )


def _action(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, summary: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=summary, description=summary)
    parser.add_argument("name", metavar="NAME", help="as for `idbench run --method`")
    parser.add_argument("--method-args", nargs="+", metavar="KEY=VALUE", type=key_value)
    parser.add_argument("--device", default="cpu", metavar="NAME")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    return parser


def run(args: argparse.Namespace) -> int:
    """Checks, explains or surveys; a check that fails gives 1."""
    actions = {"check": _check, "explain": _explain, "survey": _survey, "program": _program}
    return actions[args.action](args)


def _program(args: argparse.Namespace) -> int:
    print(_program_source(args.name), end="")
    return 0


def _program_source(name: str) -> str:
    info = method_info(name)
    recipe = dict(info.given).get("recipe", name.partition(":")[2])
    if info.route != "command" or not recipe:
        known = ", ".join(
            sorted(i.name for i in list_methods() if i.route == "command" and i.given)
        )
        raise LookupError(f"{name} is no command recipe; known: {known}; or program:FILE.yaml")
    from idbench.methods.recipes.program_method import program_source

    return program_source(recipe)


def _check(args: argparse.Namespace) -> int:
    if not args.tiny:
        return _checked(args, dict(args.method_args or []))
    info = method_info(args.name)
    recipe = dict(info.given).get("recipe", args.name.partition(":")[2])
    if info.target != RECIPE_METHOD or not recipe:
        raise LookupError(f"{args.name} has no tiny weights; recipes of diffusers have some")
    from idbench.methods.recipes.tiny.checkpoints import tiny_arguments

    with tempfile.TemporaryDirectory(prefix="idbench-") as folder:
        tiny = tiny_arguments(recipe, Path(folder))
        return _checked(args, {**tiny, **dict(args.method_args or [])})


def _checked(args: argparse.Namespace, given: Mapping[str, object]) -> int:
    checks = check_named(
        args.name,
        given,
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


def _explain(args: argparse.Namespace) -> int:
    name = method_info(args.name).name
    if name not in EXPLAINERS:
        raise LookupError(f"{name} cannot be explained; known: {', '.join(EXPLAINERS)}")
    root = data_root()
    suite = load_suite(args.suite, data_root=root)
    materialise(suite, root)
    case = suite.case(args.case) if args.case else suite.cases[0]
    seed = sample_seed(suite.seed_policy, case.case_id, 0)
    request = build_request(case, 0, seed, data_root=root, prompt=args.prompt)
    explainer = cast(Explainer, _function(EXPLAINERS[name]))
    method = build(args.name, dict(args.method_args or []), device=args.device, dtype=args.dtype)
    for path in explainer(method, request, args.output):
        if path.suffix == ".txt":
            for line in path.read_text(encoding="utf-8").splitlines():
                print(escape.plain(line))
        print(path)
    return 0


def _survey(args: argparse.Namespace) -> int:
    name = method_info(args.name).name
    if name not in SURVEYORS:
        raise LookupError(f"{name} cannot be surveyed; known: {', '.join(SURVEYORS)}")
    if args.prompts:
        lines = args.prompts.read_text(encoding="utf-8").splitlines()
        prompts = [line.strip() for line in lines if line.strip()]
    else:
        suite = load_suite(args.suite, data_root=data_root())
        prompts = list(dict.fromkeys(case.prompt for case in suite.cases))
    method = build(args.name, dict(args.method_args or []), device=args.device, dtype=args.dtype)
    print(cast(Surveyor, _function(SURVEYORS[name]))(method, prompts))
    return 0


def _function(target: str) -> object:
    module, _, function = target.partition(":")
    return getattr(import_module(module), function)
