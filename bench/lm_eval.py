"""Results in the shape of lm-evaluation-harness, so that its viewers read them (pure)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from idbench.aggregate import reason_counts
from idbench.intervals import DRAWS
from idbench.records import Column

FILTER = "none"


def results_document(
    aggregates: pd.DataFrame, columns: Sequence[Column], run: Mapping[str, Any]
) -> dict[str, Any]:
    """The results of one run: suites are tasks, columns are metrics of the filter "none".

    What that shape has no place for (coverage, intervals, reasons of misses, fingerprints) stands
    under the key "idbench", by task and metric.

    Args:
        aggregates: Aggregates (`AGGREGATE_FRAME`) of this run alone.
        columns: What its columns mean.
        run: `run.json` as a mapping: label, method, suite, seed_policy, environment.

    Raises:
        ValueError: If the aggregates are of more than one run, or two columns share a name.
    """
    if aggregates["run"].nunique() != 1:
        raise ValueError(f"one run at a time, got {aggregates['run'].nunique()}")
    if aggregates.duplicated(["suite", "column"]).any():
        twice = sorted(set(aggregates[aggregates.duplicated(["suite", "column"])]["column"]))
        raise ValueError(
            f"{', '.join(twice)} has two fingerprints in this run, and the shape has room for one; "
            "choose with --columns after scoring again"
        )
    known = {(column.name, column.fingerprint): column for column in columns}
    method, suite, environment = run["method"], run["suite"], run.get("environment", {})
    given = method.get("args") or {}
    document: dict[str, Any] = {
        "results": {}, "group_subtasks": {}, "configs": {}, "versions": {}, "n-shot": {},
        "higher_is_better": {}, "n-samples": {},
        "config": {
            "model": method["name"],
            "model_args": ",".join(f"{key}={value}" for key, value in sorted(given.items())),
            "batch_size": None,
            "device": environment.get("device"),
            "limit": None,
            "bootstrap_iters": DRAWS,
            "random_seed": run["seed_policy"],
        },
        "model_name": run["label"],
        "model_source": "idbench",
        "task_hashes": {},
        "idbench": {"environment": environment, "method": method, "coverage": {}},
    }  # fmt: skip
    for task, part in aggregates.groupby("suite", sort=True):
        name = str(task)
        rows = part.sort_values("column").to_dict("records")
        results: dict[str, Any] = {"alias": name}
        coverage: dict[str, Any] = {}
        better: dict[str, bool | None] = {}
        for row in rows:
            column = known[row["column"], row["fingerprint"]]
            results[f"{column.name},{FILTER}"] = _number(row["mean"])
            results[f"{column.name}_stderr,{FILTER}"] = _number(row["se"], "N/A")
            better[column.name] = column.higher_is_better
            coverage[column.name] = {
                "n": int(row["n"]),
                "total": int(row["total"]),
                "identities": int(row["identities"]),
                "ci95": [_number(row["low"]), _number(row["high"])],
                "missing": reason_counts(str(row["reasons"])),
                "unit": column.unit,
                "fingerprint": column.fingerprint,
                "comparable_to_published": column.comparable_to_published,
            }
        document["results"][name] = results
        document["group_subtasks"][name] = []
        document["configs"][name] = {
            "task": name,
            "output_type": "generate_images",
            "metadata": {"version": suite["version"], "sha256": suite["sha256"]},
        }
        document["versions"][name] = suite["version"]
        document["n-shot"][name] = 0
        document["higher_is_better"][name] = better
        document["n-samples"][name] = {
            "original": max(int(row["total"]) for row in rows),
            "effective": min(int(row["n"]) for row in rows),
        }
        document["task_hashes"][name] = suite["sha256"]
        document["idbench"]["coverage"][name] = coverage
    return document


def _number(value: float, missing: str | None = None) -> float | str | None:
    return missing if math.isnan(value) else float(value)
