"""`idbench gate`: a run against a baseline, with an exit code for CI; and its simulation."""

import argparse
import math
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

from idbench import gate_text
from idbench.baseline import ScoredRun, load_run, read_baseline
from idbench.columns import match_column
from idbench.escape import plain
from idbench.files import write_whole
from idbench.gate_rules import Rule, read_rules
from idbench.gate_simulation import (
    LEAST_POWER,
    MOST_FALSE_ALARMS,
    Simulated,
    noise_of_baseline,
    noise_of_pair,
    simulate,
)
from idbench.gates import EXIT_CODES, check_gate

EXAMPLE = {
    "gate.yaml": "gate.yaml",
    "idbench.yaml": "idbench.yaml",
    "workflow.yml": ".github/workflows/idbench.yml",
    "test_identity.py.example": "tests/test_identity.py",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the verb."""
    parser.description = (
        "Compares a run with a baseline under rules. Exit code 0: passes; 1: a regression beyond "
        "what is allowed; 2: inconclusive (too few samples to tell) or wrong input. "
        "`idbench gate simulate` shows how often the gate would err; "
        "`idbench gate init DIR` writes an example for a model repository."
    )
    parser.add_argument(
        "run", metavar="RUN", help="run directory with scores; or `simulate`, or `init`"
    )
    parser.add_argument("directory", nargs="?", type=Path, help="of `init`: the repository")
    parser.add_argument(
        "--baseline", type=Path, metavar="FILE", help="from `idbench baseline save`"
    )
    parser.add_argument("--rules", type=Path, metavar="FILE", help="rules, such as gate.yaml")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write a Markdown summary")
    parser.add_argument(
        "--github",
        action="store_true",
        help="print annotations, and append the summary to $GITHUB_STEP_SUMMARY",
    )
    simulation = parser.add_argument_group("simulate")
    simulation.add_argument(
        "--effect",
        nargs="+",
        default=[],
        metavar="COLUMN=DROP",
        help="drop that must be caught (default: twice the allowed drop)",
    )
    simulation.add_argument(
        "--noise",
        nargs=2,
        type=Path,
        metavar="RUN",
        help="two runs of one method with different seeds, to measure the noise (default: the "
        "baseline's spread within identities, an upper bound)",
    )
    simulation.add_argument(
        "--identities", type=int, nargs="+", metavar="N", help="sizes to try (default: the suite's)"
    )
    simulation.add_argument(
        "--per-identity", type=int, metavar="N", help="samples per identity (default: the suite's)"
    )
    simulation.add_argument("--repeats", type=int, default=4000, metavar="N", help="default 4000")


def run(args: argparse.Namespace) -> int:
    """Checks the gate, simulates it or writes the example."""
    if args.run == "init":
        return _init(args.directory or Path())
    if args.directory is not None:
        raise ValueError(f"one RUN, got {args.run} and {args.directory}")
    for flag in ("baseline", "rules"):
        if getattr(args, flag) is None:
            raise ValueError(f"--{flag} FILE is needed")
    baseline = read_baseline(args.baseline)
    rules = read_rules(args.rules, baseline.columns)
    if args.run == "simulate":
        return _simulate(args, baseline, rules)
    result = check_gate(load_run(Path(args.run)), baseline, rules)
    width = shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80
    sys.stdout.write(gate_text.terminal(result, width))
    if args.junit:
        write_whole(args.junit, gate_text.junit(result).encode())
    if args.markdown:
        write_whole(args.markdown, gate_text.markdown(result).encode())
    if args.github:
        sys.stdout.write(gate_text.github(result))
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if summary:
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(gate_text.markdown(result))
    return EXIT_CODES[result.outcome]


def _init(directory: Path) -> int:
    source = files("idbench") / "gate_example"
    targets = {name: directory / place for name, place in EXAMPLE.items()}
    for target in targets.values():
        if target.exists():
            raise FileExistsError(f"{target} is there already; move it away or choose another DIR")
    for name, target in targets.items():
        write_whole(target, (source / name).read_bytes())
        print(target)
    return 0


def _simulate(args: argparse.Namespace, baseline: ScoredRun, rules: Sequence[Rule]) -> int:
    """Prints the table of the simulation; 0 if every rule reaches both goals at every size."""
    effects = _effects(args.effect, rules)
    noise_runs = [load_run(path) for path in args.noise] if args.noise else None
    samples = baseline.frame.drop_duplicates(["case_id", "sample"])
    count = samples["identity"].nunique()
    per_identity = args.per_identity or max(1, round(len(samples) / count))
    found: list[Simulated] = []
    for rule in rules:
        noise = (
            noise_of_pair(noise_runs[0], noise_runs[1], rule)
            if noise_runs
            else noise_of_baseline(baseline, rule)
        )
        effect = effects.get(rule.column.name, 2 * rule.max_drop)
        found += [
            simulate(
                rule,
                noise,
                identities=identities,
                per_identity=per_identity,
                effect=effect,
                repeats=args.repeats,
            )
            for identities in args.identities or [count]
        ]
    _print_simulation(found)
    return 0 if all(each.good for each in found) else 1


def _effects(given: Sequence[str], rules: Sequence[Rule]) -> dict[str, float]:
    effects = {}
    for text in given:
        name, sign, drop = text.rpartition("=")
        try:
            value = float(drop) if sign else math.nan
        except ValueError:
            value = math.nan
        if not value > 0:
            raise ValueError(f"--effect takes COLUMN=DROP with a drop above 0, got {text!r}")
        effects[match_column(name, [rule.column.name for rule in rules])] = value
    return effects


def _print_simulation(found: Sequence[Simulated]) -> None:
    share: Callable[[float], str] = "{:6.1%}".format
    for each in found:
        print(
            f"{plain(each.rule.column.name)}: {each.identities} identities x {each.per_identity} "
            f"samples; noise {each.noise.person:.3g} between and {each.noise.sample:.3g} within "
            f"identities ({plain(each.noise.source)})"
        )
        print("  true drop             pass  regression  inconclusive")
        for label, outcomes in (
            ("0 (false alarms)", each.unchanged),
            (f"{each.rule.max_drop:g} (allowed)", each.at_limit),
            (f"{each.effect:g} (effect)", each.at_effect),
        ):
            cells = [share(outcomes[name]) for name in ("pass", "regression", "inconclusive")]
            print(f"  {label:<18}  {cells[0]}      {cells[1]}        {cells[2]}")
        if max(each.noise.person, each.noise.sample) < 1e-9:
            print(
                "  the baseline shows no noise (a deterministic method, or one sample per "
                "identity); give two runs with --noise"
            )
        verdict = "reached" if each.good else "NOT reached: more identities, or a larger effect"
        print(
            f"  at most {MOST_FALSE_ALARMS:.0%} false alarms and at least {LEAST_POWER:.0%} power: "
            f"{verdict}"
        )
