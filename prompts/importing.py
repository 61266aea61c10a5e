"""From units of a foreign layout to a suite and the images of its cases."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from PIL import Image

from idbench.prompts.cases import (
    Case,
    Edit,
    EditFace,
    Element,
    File,
    Kind,
    Person,
    Reference,
    SourceRow,
    identify,
)
from idbench.prompts.files import sha256_of
from idbench.prompts.formats.unit import Asked, EditedFiles, Problem, Reading, Unit
from idbench.prompts.freezing import suite_of
from idbench.prompts.references import identified, pose_axis, reference_of
from idbench.prompts.sources import folder_source
from idbench.prompts.strict import path_problem
from idbench.prompts.suites import Suite

ADHOC = "adhoc"
MAX_PIXELS = 1 << 28  # images above this are refused unread, as a bomb
_KIND_ORDER: tuple[Kind, ...] = (
    "edit_restoration",
    "multi_subject",
    "multi_id",
    "subject",
    "single_id",
)
_ROLES: dict[Kind, Literal["identity", "subject"]] = {
    "single_id": "identity",
    "multi_id": "identity",
    "subject": "subject",
    "multi_subject": "subject",
    "edit_restoration": "identity",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportedImage:
    """The image of one sample; `path` is None where it is missing. `base` is its counterpart."""

    case_id: str
    sample: int
    path: Path | None
    seed: int | None = None
    base: Path | None = None
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """A suite with images for it, and what had to be left out.

    `rows` counts rows of the layout, `duplicates` rows that repeat an image of the same case; they
    are kept as multiplicity in a suite made here.
    """

    suite: Suite
    images: tuple[ImportedImage, ...]
    rows: int
    duplicates: int
    problems: tuple[Problem, ...]
    parameters: Mapping[str, str]
    notes: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """What the table of an import shows, in its order."""
        kinds = Counter(problem.kind for problem in self.problems)
        return {
            "rows read": self.rows,
            "images mapped": sum(image.path is not None for image in self.images),
            "duplicates": self.duplicates,
            "missing files": kinds["missing"],
            "unreadable images": kinds["unreadable"],
            "refused paths": kinds["refused"],
            "unknown ids": kinds["unknown"],
        }


def assemble(reading: Reading, suite: Suite | None = None) -> Imported:
    """Maps units to the cases of `suite`, or to a suite made from the units themselves.

    In a suite made here, rows with one reference and prompt are samples of one case; rows that
    repeat an image raise its multiplicity. In a given suite a unit is found by its case id, by
    everything that was asked, or by reference and prompt where only one case has them.
    """
    problems = list(reading.problems)
    kind = suite.kind if suite else _kind(reading.units)
    drafts: list[tuple[Unit, Case]] = []
    index = _Index(suite) if suite else None
    for unit in reading.units:
        problem = _unusable_name(unit)
        if problem:
            problems.append(problem)
            continue
        case = _case(unit, kind, suite)
        if index is not None:
            found = index.find(unit, case)
            if found is None:
                where = f"{unit.file}, row {unit.row}"
                problems.append(
                    Problem(kind="unknown", where=where, detail=f"no case for {unit.alias!r}")
                )
                continue
            case = found
        drafts.append((unit, case))
    images, weights, duplicates = _samples(drafts, problems)
    if suite is None:
        suite = _adhoc(drafts, images, weights, kind)
    return Imported(
        suite=suite,
        images=tuple(sorted(images, key=lambda image: (image.case_id, image.sample))),
        rows=reading.rows,
        duplicates=duplicates,
        problems=tuple(problems),
        parameters=reading.parameters,
        notes=reading.notes,
    )


def _unusable_name(unit: Unit) -> Problem | None:
    """A file that a frozen case could not name, on this system or on another."""
    edit = unit.edit
    named = [*unit.references, unit.ground_truth]
    if edit:
        named += [edit.original, edit.edited, *edit.masks]
    for path in named:
        if path is None:
            continue
        wrong = path_problem(path.name) or path_problem(
            str(path.parent.resolve()).strip("/") or "x"
        )
        if wrong:
            shown_path = str(path).encode("utf-8", "backslashreplace").decode()
            where = f"{unit.file}, row {unit.row}"
            return Problem(kind="refused", where=where, detail=f"{wrong}: {shown_path}")
    return None


def _kind(units: Iterable[Unit]) -> Kind:
    """The kind that can hold every unit: a suite has one."""
    found = {unit.kind for unit in units}
    return next((kind for kind in _KIND_ORDER if kind in found), "single_id")


def _adhoc(
    drafts: Iterable[tuple[Unit, Case]],
    images: Iterable[ImportedImage],
    weights: Mapping[str, int],
    kind: Kind,
) -> Suite:
    cases: dict[str, Case] = {}
    for _, case in drafts:
        known = cases.get(case.case_id)
        rows = (*(known.source_rows if known else ()), *case.source_rows)
        cases[case.case_id] = replace(
            known or case, source_rows=rows, multiplicity=weights[case.case_id]
        )
    samples = max((image.sample + 1 for image in images), default=1)
    return suite_of(cases.values(), name=ADHOC, kind=kind, samples_per_case=samples)


def _samples(
    drafts: Iterable[tuple[Unit, Case]], problems: list[Problem]
) -> tuple[list[ImportedImage], dict[str, int], int]:
    """Numbers the images of each case; counts its repetitions, and those of all."""
    taken: dict[str, dict[int, ImportedImage]] = {}
    repeats: dict[tuple[str, int], int] = {}
    duplicates = 0
    for unit, case in drafts:
        known = taken.setdefault(case.case_id, {})
        place = _place(unit, known)
        if place in known:
            if known[place].path == unit.image:
                repeats[case.case_id, place] += 1
                duplicates += 1
            else:
                problems.append(
                    Problem(
                        kind="refused",
                        where=f"{unit.file}, row {unit.row}",
                        detail=f"sample {place} of {case.alias!r} has another image already",
                    )
                )
            continue
        repeats[case.case_id, place] = 1
        known[place] = _checked(unit, case.case_id, place, problems)
    weights = {case_id: max(repeats[case_id, k] for k in known) for case_id, known in taken.items()}
    return [image for known in taken.values() for image in known.values()], weights, duplicates


def _place(unit: Unit, known: Mapping[int, ImportedImage]) -> int:
    if unit.sample is not None:
        return unit.sample
    if unit.image is not None:
        for place, image in known.items():
            if image.path == unit.image:
                return place
    return len(known)


def _checked(unit: Unit, case_id: str, place: int, problems: list[Problem]) -> ImportedImage:
    where = f"{unit.file}, row {unit.row}"
    size = _size(unit.image, where, problems)
    base = unit.base if _size(unit.base, where, problems) else None
    return ImportedImage(
        case_id=case_id,
        sample=place,
        path=unit.image if size else None,
        seed=unit.seed,
        base=base,
        width=size[0] if size else None,
        height=size[1] if size else None,
    )


def _size(path: Path | None, where: str, problems: list[Problem]) -> tuple[int, int] | None:
    """Width and height from the header; None, with a problem, where it is not an image."""
    if path is None:
        return None
    try:
        with Image.open(path) as image:
            size = image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        problems.append(Problem(kind="unreadable", where=where, detail=f"{path}: {error}"))
        return None
    if size[0] * size[1] > MAX_PIXELS:
        detail = f"{path}: {size[0]} x {size[1]} pixels, the limit is {MAX_PIXELS}"
        problems.append(Problem(kind="unreadable", where=where, detail=detail))
        return None
    return size


class _Index:
    """Finds the case of a suite that a unit belongs to."""

    def __init__(self, suite: Suite) -> None:
        self._suite = suite
        self._by_key: dict[tuple[object, ...], list[str]] = {}
        self._ids: set[str] = set()
        for case in suite.cases:
            self._ids.add(case.case_id)
            self._by_key.setdefault(_key(case), []).append(case.case_id)

    def find(self, unit: Unit, case: Case) -> Case | None:
        if unit.case_id is not None:
            return self._suite.case(unit.case_id) if unit.case_id in self._ids else None
        if case.case_id in self._ids:
            return self._suite.case(case.case_id)
        candidates = self._by_key.get(_key(case), [])
        return self._suite.case(candidates[0]) if len(candidates) == 1 else None


def _key(case: Case) -> tuple[object, ...]:
    references = tuple(reference.sha256 for reference in case.references)
    edited = case.edit.edited.sha256 if case.edit else None
    return references, unicodedata.normalize("NFC", case.prompt), edited


def _case(unit: Unit, kind: Kind, suite: Suite | None) -> Case:
    references = tuple(
        _reference(path, person, unit, kind) for person, path in enumerate(unit.references)
    )
    people = _people(unit.asked, references, kind)
    axis = pose_axis(people[0].orientation) if kind == "single_id" and people else None
    case = identified(
        ADHOC,
        1,
        alias=unit.alias,
        kind=kind,
        references=references,
        prompt=unicodedata.normalize("NFC", unit.prompt),
        people=people,
        pose_axis=axis,
        category=unit.category,
        subject=unit.subject,
        difficulty=unit.difficulty,
        ground_truth=_file(unit.ground_truth) if unit.ground_truth else None,
        edit=_edit(unit.edit) if unit.edit else None,
        tags={name: values for name, values in sorted(unit.tags.items()) if values},
        source_rows=(SourceRow(file=unit.file, row=unit.row),) if unit.file else (),
    )
    if suite is None:
        return case
    return replace(case, case_id=identify(case, suite=suite.name, version=suite.version))


def _reference(path: Path, person: int, unit: Unit, kind: Kind) -> Reference:
    return reference_of(
        path=path.name,
        sha256=sha256_of(path),
        source=folder_source(path.parent),
        role=_ROLES[kind],
        person=person,
        class_word=unit.class_word,
        gender=unit.gender,
    )


def _people(
    asked: tuple[Asked, ...], references: tuple[Reference, ...], kind: Kind
) -> tuple[Person, ...]:
    pairs = zip(references, asked, strict=False)
    people = tuple(
        Person(
            person=person,
            ref_id=reference.ref_id,
            expression=entry.expression,
            orientation=entry.orientation,
            box=entry.box if kind != "single_id" else None,
        )
        for person, (reference, entry) in enumerate(pairs)
    )
    if kind == "single_id" and people and not (people[0].expression or people[0].orientation):
        return ()
    return people


def _file(path: Path) -> File:
    return File(path=path.name, sha256=sha256_of(path), source=folder_source(path.parent))


def _edit(edit: EditedFiles) -> Edit:
    masks = {number: _file(mask) for number, mask in enumerate(edit.masks) if mask}
    restored = edit.restore_person
    return Edit(
        source=folder_source(edit.original.parent),
        original=_file(edit.original),
        edited=_file(edit.edited),
        instruction=edit.instruction,
        elements=tuple(
            Element(text=text, mask=masks.get(number)) for number, text in enumerate(edit.elements)
        ),
        faces=(EditFace(person=restored),) if restored is not None else (),
        corruption=edit.corruption,
        scenario=edit.scenario,
        editor=edit.editor,
    )


def units_of(
    suite: Suite, images: Iterable[ImportedImage], files: Mapping[tuple[str, str], Path]
) -> list[Unit]:
    """The units that a writer needs, from cases and images; the inverse of `assemble`.

    `files` maps (source, path) of references and edit files to where they are.
    """
    units = []
    for image in images:
        case = suite.case(image.case_id)
        edit = case.edit
        first = case.references[0] if case.references else None
        units.append(
            Unit(
                image=image.path,
                references=tuple(files[r.source, r.path] for r in case.references),
                prompt=case.prompt,
                kind=case.kind,
                base=image.base,
                sample=image.sample,
                seed=image.seed,
                asked=tuple(
                    Asked(expression=p.expression, orientation=p.orientation, box=p.box)
                    for p in case.people
                ),
                category=case.category,
                subject=case.subject,
                difficulty=case.difficulty,
                class_word=first.class_word if first else None,
                gender=first.gender if first else None,
                ground_truth=_placed(case.ground_truth, first.source if first else "", files),
                edit=_edited_files(edit, files) if edit else None,
                tags=case.tags,
                alias=case.alias,
            )
        )
    return units


def _placed(file: File | None, source: str, files: Mapping[tuple[str, str], Path]) -> Path | None:
    return files[file.source or source, file.path] if file else None


def _edited_files(edit: Edit, files: Mapping[tuple[str, str], Path]) -> EditedFiles:
    restored = [face.person for face in edit.faces if face.restore]
    return EditedFiles(
        original=files[edit.original.source or edit.source, edit.original.path],
        edited=files[edit.edited.source or edit.source, edit.edited.path],
        elements=tuple(element.text for element in edit.elements),
        masks=tuple(_placed(element.mask, edit.source, files) for element in edit.elements),
        instruction=edit.instruction,
        corruption=edit.corruption,
        scenario=edit.scenario,
        editor=edit.editor,
        restore_person=restored[0] if len(restored) == 1 else None,
    )
