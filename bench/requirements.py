"""What a row of a printed table still needs before it can be measured, and the command for it."""

import shlex
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from idbench.environment import missing_extras
from idbench.methods.protocol import MethodInfo
from idbench.methods.registry import method_info
from idbench.metrics.protocol import Metric, SetMetric
from idbench.metrics.registry import missing_requirements, resolve, resolve_sets
from idbench.paper_tables import PublishedTable, RowSource
from idbench.prompts.registry import SUITES
from idbench.prompts.suites import suite_folder
from idbench.store import folder_stem


@dataclass(frozen=True, slots=True)
class Needs:
    """What is missing on this machine, one line each, and the commands that fill the row."""

    missing: tuple[str, ...]
    commands: tuple[str, ...]


def needs_of_row(table: PublishedTable, row: str, data_root: Path) -> Needs:
    """What it takes to measure a row; imports no network.

    Raises:
        LookupError: If the table has no such row.
    """
    source = table.rows[row]
    missing: list[str] = []
    metrics: list[str] = []
    beside_base = False
    for column in table.columns:
        if column.metric is None:
            continue
        try:
            found: list[Metric | SetMetric] = [*resolve([column.metric])]
            found += resolve_sets([column.metric])
        except LookupError:
            missing.append(f"metric {column.metric}: not in this version")
            continue
        metrics.append(column.metric)
        beside_base = beside_base or any("base" in each.needs for each in found)
        for extractor in sorted({name for m in found for of in m.needs.values() for name in of}):
            missing += [
                f"metric {column.metric}: {line}" for line in missing_requirements(extractor)
            ]
    if table.suite is not None:
        missing += _suite(table.suite, data_root)
    info = _method(source.method)
    missing += _method_missing(row, source, info)
    gpu = info is not None and info.route in ("native", "recipe") and bool(info.base)
    run = [
        "idbench run",
        f"--suite {table.suite}",
        f"--method {shlex.quote(source.method or 'images:DIR')}",
    ]
    given = [shlex.quote(f"{key}={value}") for key, value in sorted(source.args.items())]
    if info is not None and info.route == "command" and info.given:
        given.append("program='PYTHON PROGRAM'")
    if info is not None and info.route == "images" and info.given:
        given.append("dir=DIR")
    if given:
        run.append(f"--method-args {' '.join(given)}")
    # Quoted: shells read brackets as patterns.
    run.append(f"--metrics {shlex.quote(','.join(metrics) or 'METRICS')}")
    run += ["--device cuda"] if gpu else []
    commands = []
    if beside_base:
        base = _base_run(table, info)
        missing.append(f"base: {base.missing}")
        commands += [base.command] if base.command else []
        run.append(f"--base {base.directory}")
    commands.append(" ".join([*run, "--output runs"]))
    return Needs(tuple(dict.fromkeys(missing)), tuple(commands))


def _method(name: str | None) -> MethodInfo | None:
    try:
        return method_info(name) if name else None
    except LookupError:
        return None


def _method_missing(row: str, source: RowSource, info: MethodInfo | None) -> list[str]:
    if source.method is None:
        return [
            f"method: {row} is not in idbench; make its images with its own code, then images:DIR"
        ]
    lines = [f"method {source.method}: {source.note}"] if source.note else []
    if info is None:
        return [*lines, f"method {source.method}: not in this version"]
    lines += [f"method {source.method}: {line}" for line in missing_of_method(info)]
    if info.route in ("native", "recipe") and info.base:
        lines.append(f"method {source.method}: a GPU, or much time")
    return lines


def missing_of_method(info: MethodInfo, weights: Path | None = None) -> list[str]:
    """What a method lacks on this machine, one line each; imports no network.

    Args:
        info: From the registry.
        weights: Folder of the methods' files; the application data folder of this user if None.
    """
    if info.route == "command" and info.given:
        return [
            f"an environment of its own: `idbench method program {info.name}` says what to "
            "install and prints the program to start from"
        ]
    if info.route == "images" and info.given:
        return ["its images, made elsewhere: --method-args dir=FOLDER"]
    lines = missing_extras(info.extras)
    root = weights or platformdirs.user_data_path("idbench") / "weights"
    absent = [need for need in info.needs if next(root.glob(need), None) is None]
    if absent:
        folders = dict.fromkeys(need.split("/")[0] for need in absent)
        lines.append(
            f"weights: {', '.join(folders)} in {root}; without them a run says how to get each"
        )
    return lines


@dataclass(frozen=True, slots=True)
class _BaseRun:
    missing: str
    command: str
    directory: str


def _base_run(table: PublishedTable, info: MethodInfo | None) -> _BaseRun:
    """The run without identity that some metrics compare with, and the command that makes it."""
    name = f"base:{info.base}" if info and info.base else ""
    if _method(name) is None:
        what = "the run of the row's base model without identity, which some metrics compare with"
        return _BaseRun(what, "", "BASE_RUN")
    return _BaseRun(
        f"a run of {name}, which some metrics compare with; the first command makes it",
        f"idbench generate --suite {table.suite} --method {name} --device cuda --output runs",
        # The shell finds the run: its name ends in a fingerprint.
        f"runs/{table.suite}/{folder_stem(name)}-*",
    )


def _suite(name: str, data_root: Path) -> list[str]:
    if name not in SUITES:
        return [f"suite {name}: not in this version"]
    try:
        suite_folder(name, data_root)
    except FileNotFoundError:
        return [f"suite {name}: {SUITES[name].how_to_get()}"]
    return []
