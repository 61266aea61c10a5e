"""Suites of any size built in constant memory: cases go to a file and are sorted there."""

import hashlib
import shutil
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from idbench.prompts.cases import Case, Kind, identify
from idbench.prompts.freezing import merge_cases
from idbench.prompts.manifest import case_from_line, case_to_line
from idbench.prompts.strict import ManifestError
from idbench.prompts.suites import CaseFile, Suite, SuiteSource


class SpooledCases(CaseFile):
    """Cases in a temporary folder that goes with the object."""

    def __init__(self, folder: Path, offsets: "array[int]", ids: "array[int]") -> None:
        """Takes over the folder, in which `cases.jsonl` is."""
        super().__init__(folder / "cases.jsonl", offsets, ids)
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)


def spooled_suite(
    cases: Iterable[Case],
    *,
    name: str,
    version: int = 1,
    kind: Kind,
    samples_per_case: int = 1,
    without_id: Literal["per_case", "shared", "none"] = "none",
    sources: tuple[SuiteSource, ...] = (),
    expected: Mapping[str, int] | None = None,
    metrics: tuple[str, ...] = (),
    variants: Mapping[str, str] | None = None,
    notes: tuple[str, ...] = (),
    weighted: bool = True,
) -> Suite:
    """As `freezing.suite_of`, with some dozen bytes of memory per case instead of the cases.

    Without `weighted` equal cases are merged but count once.

    Raises:
        ManifestError: If a case carries another id than its content has in this suite.
    """
    folder = Path(tempfile.mkdtemp(prefix="idbench-"))
    offsets, ids = array("Q"), array("Q")
    spooled = SpooledCases(folder, offsets, ids)  # from here on the folder is looked after
    drafts, final = folder / "drafts", folder / "cases.jsonl"
    found, places, weights = _spool(cases, drafts, name, version)
    digest, count = hashlib.sha256(), 0
    with drafts.open("rb") as source, final.open("wb") as target:
        for group in _groups(found):
            weight = sum(weights[index] for index in group) if weighted else 1
            if len(group) == 1 and weight == weights[group[0]]:
                line = _line_at(source, places[group[0]])
            else:
                same = [case_from_line(_line_at(source, places[i]), str(drafts)) for i in group]
                (case,) = merge_cases(same)
                line = case_to_line(replace(case, multiplicity=weight)).encode() + b"\n"
            offsets.append(target.tell())
            ids.append(int(found[group[0]]))
            target.write(line)
            digest.update(line)
            count += weight
    drafts.unlink()
    return Suite(
        name=name,
        version=version,
        kind=kind,
        cases=spooled,
        count=count,
        distinct=len(ids),
        sha256=digest.hexdigest(),
        samples_per_case=samples_per_case,
        without_id=without_id,
        sources=sources,
        expected=expected or {},
        metrics=metrics,
        variants=variants or {},
        notes=notes,
    )


def _spool(
    cases: Iterable[Case], path: Path, suite: str, version: int
) -> tuple["array[int]", "array[int]", "array[int]"]:
    """Writes the cases as they come; returns each id as a number, its place and multiplicity."""
    ids, places, weights = array("Q"), array("Q"), array("Q")
    with path.open("wb") as target:
        for case in cases:
            expected = identify(case, suite=suite, version=version)
            if case.case_id != expected:
                raise ManifestError(
                    f"case {case.case_id} ({case.alias}) should have the id {expected}"
                )
            ids.append(int(case.case_id[1:], 16))
            places.append(target.tell())
            weights.append(case.multiplicity)
            target.write(case_to_line(case).encode() + b"\n")
    return ids, places, weights


def _groups(ids: "array[int]") -> Iterator[list[int]]:
    """Positions of equal ids together, in the order of ids and, within one, of appearance."""
    order = np.argsort(np.asarray(ids, dtype=np.uint64), kind="stable")
    group: list[int] = []
    for index in order:
        position = int(index)
        if group and ids[group[0]] != ids[position]:
            yield group
            group = []
        group.append(position)
    if group:
        yield group


def _line_at(source: BinaryIO, place: int) -> bytes:
    source.seek(place)
    return source.readline()
