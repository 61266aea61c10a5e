"""What a row of a printed table still needs before it can be measured, and the command for it."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from idbench.environment import missing_extras
from idbench.methods.registry import method_info
from idbench.metrics.protocol import Metric, SetMetric
from idbench.metrics.registry import missing_requirements, resolve, resolve_sets
from idbench.paper_tables import PublishedTable
from idbench.prompts.registry import SUITES
from idbench.prompts.suites import suite_folder


@dataclass(frozen=True, slots=True)
class Needs:
    """What is missing on this machine, one line each, and the command that fills the row."""

    missing: tuple[str, ...]
    command: str


def needs_of_row(table: PublishedTable, row: str, data_root: Path) -> Needs:
    """What it takes to measure a row; imports no network.

    Raises:
        LookupError: If the table has no such row.
    """
    source = table.rows[row]
    missing: list[str] = []
    metrics: list[str] = []
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
        for extractor in sorted({name for m in found for of in m.needs.values() for name in of}):
            missing += [
                f"metric {column.metric}: {line}" for line in missing_requirements(extractor)
            ]
    if table.suite is not None:
        missing += _suite(table.suite, data_root)
    method = source.method or "images:DIR"
    device = ""
    if source.method is None:
        missing.append(
            f"method: {row} is not in idbench; make its images with its own code, then images:DIR"
        )
    else:
        try:
            info = method_info(source.method)
            missing += [f"method {source.method}: {line}" for line in missing_extras(info.extras)]
            if info.base:
                missing.append(f"method {source.method}: weights of {info.base}, and a GPU")
                device = " --device cuda"
        except LookupError:
            missing.append(f"method {source.method}: not in this version")
    if any(column.base and column.metric in metrics for column in table.columns):
        missing.append("base: a run of the base model without identity, for --base")
    arguments = "".join(
        f" {shlex.quote(f'{key}={value}')}" for key, value in sorted(source.args.items())
    )
    command = (
        f"idbench run --suite {table.suite} --method {method}"
        f"{f' --method-args{arguments}' if arguments else ''}"
        f" --metrics {','.join(metrics) or 'METRICS'}{device} --output runs"
    )
    return Needs(tuple(dict.fromkeys(missing)), command)


def _suite(name: str, data_root: Path) -> list[str]:
    if name not in SUITES:
        return [f"suite {name}: not in this version"]
    try:
        suite_folder(name, data_root)
    except FileNotFoundError:
        return [f"suite {name}: {SUITES[name].how_to_get()}"]
    return []
