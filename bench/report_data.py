"""What a report shows, as one JSON document: runs, cases, scores, aggregates."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from idbench.aggregate import AGGREGATE_FRAME, aggregate, reason_counts
from idbench.columns import ColumnName
from idbench.curves import Step
from idbench.prompts.cases import Case, Reference
from idbench.prompts.sources import resolve
from idbench.prompts.suites import Suite
from idbench.records import Column
from idbench.report_images import Faces, picture_name
from idbench.store import RunStore
from idbench.tables import make_grids, natural_key

MOST_TAG_VALUES = 24
DIGITS = 6


@dataclass(frozen=True, slots=True)
class RunSource:
    """A run directory and the suite that it was made on."""

    directory: Path
    suite: Suite


@dataclass(slots=True)
class ReportData:
    """The document, and the pictures (sha256 and path) that it names."""

    document: dict[str, Any]
    pictures: list[tuple[str, Path]] = field(default_factory=list)
    missing_references: list[str] = field(default_factory=list)


def collect(
    runs: Sequence[RunSource],
    frame: pd.DataFrame,
    columns: Sequence[Column],
    *,
    data_root: Path,
    faces: Faces,
    title: str,
    sets: pd.DataFrame | None = None,
    steps: Mapping[str, Step] | None = None,
) -> ReportData:
    """Gathers a report of runs.

    Args:
        runs: The runs and their suites.
        frame: Their scores per sample.
        columns: Which columns to show, those of whole sets included.
        data_root: Where references are.
        faces: Whether to show pictures.
        title: Title of the page.
        sets: Aggregates of whole sets, such as FID.
        steps: Which runs are on a curve, by name.
    """
    found = ReportData({})
    suites = {run.suite.name: run.suite for run in runs}
    keys = [(column.name, column.fingerprint) for column in columns]
    labels = _labels(frame)
    document: dict[str, Any] = {
        "title": title,
        "faces": faces,
        "columns": [_column(column, columns) for column in columns],
        "suites": [],
        "runs": [],
    }
    order = sorted(runs, key=lambda run: natural_key(labels[run.directory.name]))
    for name in sorted(suites):
        part = frame[frame["suite"] == name]
        samples = part.drop_duplicates(["case_id", "sample"])[["case_id", "sample"]]
        planned = sorted(map(tuple, samples.itertuples(index=False)))
        cases = {
            case_id: place for place, case_id in enumerate(dict.fromkeys(c for c, _ in planned))
        }
        document["suites"].append(
            {
                "name": name,
                "version": suites[name].version,
                "cases": [
                    _case(suites[name].case(case_id), data_root, faces, found) for case_id in cases
                ],
                "samples": [[cases[case_id], int(sample)] for case_id, sample in planned],
                "aggregates": _aggregates(part, keys) + _records(_of_suite(sets, name), keys, ""),
                "notes": list(make_grids(aggregate(part), columns)[0].notes) if len(part) else [],
            }
        )
        for run in (each for each in order if each.suite.name == name):
            label, step = labels[run.directory.name], (steps or {}).get(run.directory.name)
            document["runs"].append(
                _run(run, part, planned, keys, label, faces, found)
                | {"curve": _curve(step) if step else None}
            )
    found.document = document
    return found


def _curve(step: Step) -> dict[str, Any]:
    return {"name": step.curve, "value": step.value, "text": step.text}


def _labels(frame: pd.DataFrame) -> dict[str, str]:
    """Run to label; runs of one suite that share a label are told apart by their folder."""
    pairs = frame.drop_duplicates("run")[["run", "label", "suite"]]
    shared = pairs.duplicated(["label", "suite"], keep=False)
    return {
        run: f"{label} #{run}" if twice else label
        for (run, label, _), twice in zip(pairs.itertuples(index=False), shared, strict=True)
    }


def _column(column: Column, columns: Sequence[Column]) -> dict[str, Any]:
    name = ColumnName.parse(column.name)
    shared = sum(other.name == column.name for other in columns) > 1

    def bound(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return {
        "name": column.name + (f" #{column.fingerprint[:6]}" if shared else ""),
        "metric": name.metric,
        "below": f"@{name.protocol}[{name.backend}]",
        "unit": column.unit,
        "higher": column.higher_is_better,
        "low": bound(column.low),
        "high": bound(column.high),
        "axis": column.axis,
        "published": column.comparable_to_published,
        "fingerprint": column.fingerprint,
    }


def _case(case: Case, data_root: Path, faces: Faces, found: ReportData) -> dict[str, Any]:
    asked = [
        ", ".join(filter(None, (person.expression, person.orientation))) for person in case.people
    ]
    return {
        "id": case.case_id,
        "alias": case.alias,
        "prompt": case.prompt,
        "identity": case.identity,
        "weight": case.multiplicity,
        "tags": {name: list(values) for name, values in case.tags.items()},
        "asked": [text for text in asked if text],
        "references": [
            _reference(reference, data_root, faces, found) for reference in case.references
        ],
    }


def _reference(
    reference: Reference, data_root: Path, faces: Faces, found: ReportData
) -> str | None:
    if faces == "omit":
        return None
    try:
        path = resolve(reference, reference.source, data_root)
    except (OSError, ValueError, LookupError) as error:
        found.missing_references.append(f"{reference.path}: {error}")
        return None
    found.pictures.append((reference.sha256, path))
    return picture_name(reference.sha256, faces)


def _run(
    run: RunSource,
    part: pd.DataFrame,
    planned: Sequence[tuple[Any, ...]],
    keys: Sequence[tuple[str, str]],
    label: str,
    faces: Faces,
    found: ReportData,
) -> dict[str, Any]:
    with RunStore.open(run.directory) as store:
        method = store.identity.method
        samples = {(s.case_id, s.sample): s for s in store.samples()}
    pictures: list[str | None] = []
    failures: dict[str, str] = {}
    for place, key in enumerate(planned):
        sample = samples.get((key[0], key[1]))
        if sample is None:
            pictures.append(None)
            failures[str(place)] = "not planned in this run"
        elif sample.path is None or sample.sha256 is None:
            pictures.append(None)
            failures[str(place)] = ": ".join(filter(None, (sample.reason, sample.detail)))
        else:
            shown = None if faces == "omit" else picture_name(sample.sha256, faces)
            pictures.append(shown)
            if shown:
                found.pictures.append((sample.sha256, run.directory / sample.path))
    own = part[part["run"] == run.directory.name]
    return {
        "label": label,
        "run": run.directory.name,
        "method": method["name"],
        "suite": run.suite.name,
        "pictures": pictures,
        "failures": failures,
        "scores": [_scores(own, key, planned) for key in keys],
    }


def _scores(
    own: pd.DataFrame, key: tuple[str, str], planned: Sequence[tuple[Any, ...]]
) -> list[float | str | None] | None:
    """Per planned sample the value, the reason as text, or None where not measured at all."""
    chosen = own[(own["column"] == key[0]) & (own["fingerprint"] == key[1])]
    if chosen.empty:
        return None
    found = {
        (case_id, sample): (value, reason)
        for case_id, sample, value, reason in chosen[
            ["case_id", "sample", "value", "reason"]
        ].itertuples(index=False)
    }
    scores: list[float | str | None] = []
    for place in planned:
        value, reason = found.get((place[0], place[1]), (math.nan, "not_planned"))
        scores.append(float(f"{value:.{DIGITS}g}") if math.isfinite(value) else reason or "unknown")
    return scores


def _aggregates(part: pd.DataFrame, keys: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Aggregates of all samples (tag "") and of those of each value of each tag."""
    return [
        record for tag, rows in _by_tag(part) for record in _records(aggregate(rows), keys, tag)
    ]


def _of_suite(sets: pd.DataFrame | None, suite: str) -> pd.DataFrame:
    if sets is None:
        return pd.DataFrame(columns=list(AGGREGATE_FRAME))
    return sets[sets["suite"] == suite]


def _records(
    aggregates: pd.DataFrame, keys: Sequence[tuple[str, str]], tag: str
) -> list[dict[str, Any]]:
    place = {key: index for index, key in enumerate(keys)}
    records = []
    for row in aggregates.to_dict("records"):
        key = (row["column"], row["fingerprint"])
        mean, margin = float(row["mean"]), float(row["margin"])
        if key in place:
            records.append(
                {
                    "tag": tag,
                    "run": row["run"],
                    "column": place[key],
                    "mean": None if math.isnan(mean) else mean,
                    "margin": None if math.isnan(margin) else margin,
                    "n": int(row["n"]),
                    "total": int(row["total"]),
                    "identities": int(row["identities"]),
                    "reasons": reason_counts(str(row["reasons"])),
                }
            )
    return records


def _by_tag(part: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """All rows, then those of each tag value that some but not all cases have."""
    texts = part["tags"].drop_duplicates()
    parsed: dict[str, Mapping[str, Sequence[str]]] = {text: json.loads(text) for text in texts}
    values: dict[str, set[str]] = {}
    for entry in parsed.values():
        for name, found in entry.items():
            values.setdefault(name, set()).update(map(str, found))
    chosen = [("", part)]
    for name in sorted(values):
        if len(values[name]) > MOST_TAG_VALUES:
            continue
        for value in sorted(values[name]):
            having = {
                text for text, tags in parsed.items() if value in map(str, tags.get(name, ()))
            }
            rows = part[part["tags"].isin(having)]
            if len(rows) < len(part):
                chosen.append((f"{name}={value}", rows))
    return chosen
