"""Making suites from cases: merging equal ones, checking ids, writing the frozen files."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import yaml

from idbench.prompts.cases import Case, Kind, identify
from idbench.prompts.files import write_whole
from idbench.prompts.manifest import case_to_line
from idbench.prompts.strict import ManifestError
from idbench.prompts.suites import FORMAT, CaseFile, Suite, SuiteSource


def merge_cases(cases: Iterable[Case]) -> list[Case]:
    """Merges equal cases and sorts by id: the first is kept, multiplicity and source rows add up.

    Raises:
        ManifestError: If two different cases have one id.
    """
    merged: dict[str, Case] = {}
    for case in cases:
        known = merged.get(case.case_id)
        merged[case.case_id] = _joined(known, case) if known else case
    return [merged[case_id] for case_id in sorted(merged)]


def _joined(first: Case, second: Case) -> Case:
    shas = [[reference.sha256 for reference in case.references] for case in (first, second)]
    if shas[0] != shas[1] or (first.kind, first.prompt) != (second.kind, second.prompt):
        raise ManifestError(f"two different cases have the id {first.case_id}")
    return replace(
        first,
        multiplicity=first.multiplicity + second.multiplicity,
        source_rows=first.source_rows + second.source_rows,
    )


def suite_of(
    cases: Iterable[Case],
    *,
    name: str,
    version: int = 1,
    kind: Kind,
    samples_per_case: int = 1,
    without_id: Literal["per_case", "shared", "none"] = "none",
    seed_policy: str = "hashed",
    sources: tuple[SuiteSource, ...] = (),
    expected: Mapping[str, int] | None = None,
    metrics: tuple[str, ...] = (),
    variants: Mapping[str, str] | None = None,
    notes: tuple[str, ...] = (),
) -> Suite:
    """A suite in memory from cases in any order; equal cases are merged.

    Raises:
        ManifestError: If a case carries another id than its content has in this suite.
    """
    merged = merge_cases(cases)
    digest = hashlib.sha256()
    for case in merged:
        expected_id = identify(case, suite=name, version=version)
        if case.case_id != expected_id:
            raise ManifestError(
                f"case {case.case_id} ({case.alias}) should have the id {expected_id}"
            )
        digest.update(case_to_line(case).encode() + b"\n")
    return Suite(
        name=name,
        version=version,
        kind=kind,
        cases=tuple(merged),
        count=sum(case.multiplicity for case in merged),
        distinct=len(merged),
        sha256=digest.hexdigest(),
        samples_per_case=samples_per_case,
        without_id=without_id,
        seed_policy=seed_policy,
        sources=sources,
        expected=expected or {},
        metrics=metrics,
        variants=variants or {},
        notes=notes,
    )


def write_suite(suite: Suite, folder: Path) -> None:
    """Freezes a suite into `folder`: first the cases, then the header, each file written whole."""
    lines: Iterable[bytes] = (case_to_line(case).encode() + b"\n" for case in suite.cases)
    if isinstance(suite.cases, CaseFile):
        lines = suite.cases.lines()
    write_whole(folder / "cases.jsonl", lines)
    write_whole(folder / "suite.yaml", [header_text(suite).encode()])


def header_text(suite: Suite) -> str:
    """The `suite.yaml` of a suite."""
    header = {
        "format": FORMAT,
        "name": suite.name,
        "version": suite.version,
        "kind": suite.kind,
        "samples_per_case": suite.samples_per_case,
        "without_id": suite.without_id,
        "seed_policy": suite.seed_policy,
        "cases": {
            "path": "cases.jsonl",
            "count": suite.count,
            "distinct": suite.distinct,
            "sha256": suite.sha256,
        },
        "sources": [
            {
                key: value
                for key, value in (
                    ("name", source.name),
                    ("revision", source.revision),
                    ("lock", source.lock),
                )
                if value is not None
            }
            for source in suite.sources
        ],
        "expected": dict(suite.expected),
        "metrics": list(suite.metrics),
        "variants": dict(suite.variants),
        "notes": list(suite.notes),
    }
    return yaml.safe_dump(header, sort_keys=False, allow_unicode=True, width=96)


def write_cases_table(suite: Suite, folder: Path) -> Path | None:
    """Writes `cases.parquet`: one row per case, nested fields as JSON, the sha256 in the footer.

    A cache for tools that read tables; `cases.jsonl` stays what counts. Returns None, and writes
    nothing, where pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return None
    path = folder / "cases.parquet"
    part = folder / ".cases.parquet.part"
    schema = pa.schema(
        [pa.field(name, pa.string()) for name in _TABLE_TEXTS] + [("multiplicity", pa.int64())],
        metadata={"cases_jsonl_sha256": suite.sha256},
    )
    with pq.ParquetWriter(part, schema) as writer:
        for start in range(0, len(suite.cases), 10_000):
            rows = [json.loads(case_to_line(case)) for case in suite.cases[start : start + 10_000]]
            columns = {
                name: [row[name] if name in _PLAIN else _ENCODER.encode(row[name]) for row in rows]
                for name in _TABLE_TEXTS
            }
            columns["multiplicity"] = [row["multiplicity"] for row in rows]
            writer.write_table(pa.Table.from_pydict(columns, schema=schema))
    part.replace(path)
    return path


_PLAIN = ("case_id", "alias", "kind", "prompt", "prompt_id")
_TABLE_TEXTS = (*_PLAIN, "references", "tags", "source_rows", "attrs")
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
