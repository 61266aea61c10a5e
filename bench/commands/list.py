"""`idbench list methods|suites|metrics`: what there is, and whether it can run here."""

import argparse
import dataclasses
import fnmatch
import json
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from idbench.methods.protocol import Kind, Route
from idbench.methods.registry import list_methods
from idbench.metrics.judge import judged
from idbench.metrics.mrank import MRANK
from idbench.metrics.protocol import MetricInfo
from idbench.metrics.registry import (
    list_metrics,
    missing_requirements,
    resolve,
    resolve_sets,
)
from idbench.prompts.sources import data_root
from idbench.prompts.suites import list_suites, suite_folder
from idbench.requirements import missing_of_method

WIDTH = 80
KINDS: dict[Kind, str] = {
    "single_id": "single",
    "multi_id": "multi",
    "subject": "subject",
    "multi_subject": "multi-subject",
    "edit_restoration": "edit",
}
ROUTES: dict[Route, str] = {
    "native": "native",
    "recipe": "recipe",
    "command": "command recipe",
    "images": "images only",
}
ENDPOINT = (
    "a vision-language model behind an OpenAI-compatible endpoint of your choice: "
    "idbench judge RUN --endpoint URL --model MODEL"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `idbench list`."""
    parser.add_argument("what", choices=["methods", "suites", "metrics"])
    parser.add_argument("pattern", nargs="?", default="*", metavar="GLOB", help="such as 'tiny-*'")
    parser.add_argument("--json", action="store_true", help="every field, as JSON")


def run(args: argparse.Namespace) -> int:
    """Prints the list."""
    entries = list({"methods": _methods, "suites": _suites, "metrics": _metrics}[args.what]())
    chosen = [entry for entry in entries if fnmatch.fnmatch(entry["name"], args.pattern)]
    if not chosen:
        names = ", ".join(entry["name"] for entry in entries)
        raise LookupError(f"no {args.what} match {args.pattern!r}; known: {names}")
    print(json.dumps(chosen, indent=2, default=list) if args.json else _text(chosen))
    return 0


def _methods() -> Iterable[dict[str, Any]]:
    for info in list_methods():
        yield dataclasses.asdict(info) | {
            "head": info.name,
            "facts": [
                ROUTES[info.route],
                ", ".join(KINDS[kind] for kind in info.kinds),
                info.base and f"base {info.base}",
                info.licence and f"weights: {info.licence}",
            ],
            "notes": [
                f"rows of papers: {_by_table(info.rows)}" if info.rows else "",
                f"note: {info.reason}" if info.reason else "",
            ],
            "missing": missing_of_method(info),
        }


def _by_table(rows: Iterable[str]) -> str:
    """Rows as "paper:table row, row; ..."."""
    tables: dict[str, list[str]] = {}
    for row in rows:
        paper, table, name = row.split(":", 2)
        tables.setdefault(f"{paper}:{table}", []).append(name)
    return "; ".join(f"{table} {', '.join(names)}" for table, names in tables.items())


def _suites() -> Iterable[dict[str, Any]]:
    root = data_root()
    for info in list_suites():
        counts = f"{info.cases:,} cases" if info.cases else "cases not published"
        if info.distinct != info.cases:
            counts += f" ({info.distinct:,} distinct)"
        if info.samples > 1:
            counts += f" x {info.samples} samples"
        missing = _suite_missing(info.name, root)
        yield dataclasses.asdict(info) | {
            "distinct": info.distinct,
            "head": info.name if missing else f"{info.name}  (here)",
            "facts": [info.kind, counts, info.used_by and f"used by {info.used_by}", info.licence],
            "missing": missing,
        }


def _suite_missing(name: str, root: Path) -> list[str]:
    try:
        suite_folder(name, root)
    except (FileNotFoundError, LookupError) as error:
        return [str(error)]
    return []


def _metrics() -> Iterable[dict[str, Any]]:
    for info in list_metrics():
        extractors = networks(_column(info))
        missing = [need for name in extractors for need in missing_requirements(name)]
        yield _metric(info, extractors, list(dict.fromkeys(missing)))
    # Two that are made by commands of their own: from a table, and by a model of the user's.
    yield _metric(MRANK, [], [])
    for info in judged("MODEL"):
        yield _metric(info, [], [ENDPOINT])


def _column(info: MetricInfo) -> str:
    return dataclasses.replace(info, variants=("",)).columns()[0]


def _metric(info: MetricInfo, extractors: list[str], missing: list[str]) -> dict[str, Any]:
    direction = {True: "higher is better", False: "lower is better", None: "no direction"}
    low, high = (f"{bound:g}" for bound in info.bounds)
    variants = [variant for variant in info.variants if variant]
    return dataclasses.asdict(info) | {
        "name": _column(info),
        "head": _column(info),
        "networks": extractors,
        "runs_here": not missing,
        "facts": [
            info.axis,
            f"{info.unit}, {low} to {high}",
            direction[info.higher_is_better],
            f"variants {', '.join(variants)}" if variants else "",
            f"networks {', '.join(extractors)}" if extractors else "",
            f"used by {', '.join(info.papers)}" if info.papers else "",
            "" if info.comparable_to_published else "not comparable with published numbers",
            "" if missing else "can run here",
        ],
        "missing": missing,
    }


def networks(column: str) -> list[str]:
    """The extractors that a metric reads, by name."""
    needs = [metric.needs for metric in resolve([column])]
    needs += [metric.needs for metric in resolve_sets([column])]
    return sorted({name for of_roles in needs for names in of_roles.values() for name in names})


def _text(entries: Iterable[Mapping[str, Any]]) -> str:
    lines = []
    for entry in entries:
        lines.append(entry["head"])
        lines += _wrapped(entry["summary"])
        lines += _wrapped("; ".join(fact for fact in entry["facts"] if fact))
        for note in entry.get("notes", ()):
            lines += _wrapped(note)
        for missing in entry["missing"]:
            lines += _wrapped(f"not here: {missing}")
    return "\n".join(lines)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent="    ")
