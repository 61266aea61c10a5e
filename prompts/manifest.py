"""Cases as lines of JSON: the strict, lossless form in which a suite is frozen."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import get_args

from idbench.prompts.cases import (
    Box,
    Case,
    Edit,
    EditFace,
    Element,
    File,
    Kind,
    Person,
    Reference,
    SourceRow,
    prompt_id,
)
from idbench.prompts.strict import ManifestError, Record, parse_json, shown

KINDS: tuple[str, ...] = get_args(Kind)
ROLES = ("identity", "subject", "style", "scene", "wearing")
GENDERS = ("female", "male", "unknown")
MAX_PIXELS = 1e6
POSE_AXES = ("yaw", "pitch")
CORRUPTIONS = ("high", "low")

_HEX64 = re.compile(r"[0-9a-f]{64}")
_CASE_ID = re.compile(r"c[0-9a-f]{16}")
_REF_ID = re.compile(r"r[0-9a-f]{12}")
_PROMPT_ID = re.compile(r"p[0-9a-f]{12}")

_CASE_KEYS = (
    "case_id",
    "alias",
    "kind",
    "references",
    "prompt",
    "prompt_id",
    "tags",
    "multiplicity",
    "source_rows",
    "attrs",
)
_TEXT_ATTRS = (
    "category",
    "subject",
    "difficulty",
    "segment_query",
    "combination",
    "target_gender",
    "layout_source",
)


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def case_to_line(case: Case) -> str:
    """One line of `cases.jsonl`, without the newline. Absent attributes are left out.

    Raises:
        ManifestError: If the case could not be read back as it is.
    """
    attrs: dict[str, object] = {}
    if case.kind == "single_id":
        _write_single_person(case, attrs)
    elif case.people:
        key = "subjects" if case.kind == "multi_subject" else "people"
        attrs[key] = [_present(_person_to_json(person)) for person in case.people]
    for name in _TEXT_ATTRS:
        attrs[name] = getattr(case, name)
    attrs["pose_axis"] = case.pose_axis
    attrs["ground_truth"] = _file_to_json(case.ground_truth)
    attrs["edit"] = _edit_to_json(case.edit)
    payload = {
        "case_id": case.case_id,
        "alias": case.alias,
        "kind": case.kind,
        "references": [_present(_reference_to_json(entry)) for entry in case.references],
        "prompt": case.prompt,
        "prompt_id": case.prompt_id,
        "tags": {name: list(case.tags[name]) for name in sorted(case.tags)},
        "multiplicity": case.multiplicity,
        "source_rows": [{"file": row.file, "row": row.row} for row in case.source_rows],
        "attrs": _present(attrs),
    }
    return _ENCODER.encode(payload)


def _write_single_person(case: Case, attrs: dict[str, object]) -> None:
    if not case.people:
        return
    person = case.people[0]
    expected = Person(
        person=0,
        ref_id=case.references[0].ref_id if case.references else "",
        expression=person.expression,
        orientation=person.orientation,
    )
    asks = person.expression is not None or person.orientation is not None
    if len(case.people) != 1 or person != expected or not asks:
        raise ManifestError(
            f"case {case.case_id}: a single_id case has one person at most, number 0, of the first "
            f"reference, with an expression or an orientation and without a box; got {case.people}"
        )
    attrs["expression"] = person.expression
    attrs["orientation"] = person.orientation


def _present(record: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in record.items() if value is not None}


def _reference_to_json(reference: Reference) -> dict[str, object]:
    return {
        "ref_id": reference.ref_id,
        "sha256": reference.sha256,
        "path": reference.path,
        "source": reference.source,
        "role": reference.role,
        "person": reference.person,
        "class_word": reference.class_word,
        "gender": reference.gender,
        "face_box": _box(reference.face_box),
    }


def _person_to_json(person: Person) -> dict[str, object]:
    return {
        "person": person.person,
        "ref_id": person.ref_id,
        "expression": person.expression,
        "orientation": person.orientation,
        "box": _box(person.box),
    }


def _box(box: Box | None) -> list[float] | None:
    return [float(edge) for edge in box] if box else None


def _file_to_json(file: File | None) -> dict[str, object] | None:
    if file is None:
        return None
    return _present({"path": file.path, "sha256": file.sha256, "source": file.source})


def _edit_to_json(edit: Edit | None) -> dict[str, object] | None:
    if edit is None:
        return None
    return _present(
        {
            "source": edit.source,
            "original": _file_to_json(edit.original),
            "edited": _file_to_json(edit.edited),
            "restored": _file_to_json(edit.restored),
            "instruction": edit.instruction,
            "elements": [
                _present(
                    {
                        "text": element.text,
                        "mask": _file_to_json(element.mask),
                        "person": element.person,
                    }
                )
                for element in edit.elements
            ],
            "faces": [
                _present(
                    {
                        "person": face.person,
                        "original_box": _box(face.original_box),
                        "edited_box": _box(face.edited_box),
                        "restore": face.restore,
                    }
                )
                for face in edit.faces
            ],
            "corruption": edit.corruption,
            "scenario": list(edit.scenario),
            "editor": edit.editor,
        }
    )


def case_from_line(line: str | bytes, where: str) -> Case:
    """Reads one line of `cases.jsonl`; `where` names it in errors.

    Raises:
        ManifestError: On anything but a complete case with known keys.
    """
    return case_from_json(parse_json(line, where), where)


def case_from_json(value: object, where: str) -> Case:
    """Reads a decoded case; see `case_from_line`."""
    record = Record(value, where)
    kind = record.choice("kind", KINDS)
    references = tuple(_reference(entry) for entry in record.records("references"))
    attrs = record.record("attrs")
    case = Case(
        case_id=record.text("case_id", _CASE_ID),
        alias=record.text("alias"),
        kind=kind,
        references=references,
        prompt=record.text("prompt", normalised=True),
        prompt_id=record.text("prompt_id", _PROMPT_ID),
        tags=_tags(record.take("tags"), where),
        multiplicity=record.whole("multiplicity", 1),
        source_rows=tuple(_source_row(entry) for entry in record.records("source_rows")),
        people=_people(attrs, kind, references, where),
        edit=_edit(attrs.optional_record("edit")),
        ground_truth=_optional_file(attrs.optional_record("ground_truth")),
        pose_axis=attrs.optional_choice("pose_axis", POSE_AXES),
        **{name: attrs.optional_text(name) for name in _TEXT_ATTRS},
    )
    attrs.done()
    record.done()
    _check_consistency(case, where)
    return case


def _check_consistency(case: Case, where: str) -> None:
    if case.prompt_id != prompt_id(case.prompt):
        raise ManifestError(
            f"{where}, key 'prompt_id': {case.prompt_id} is not the hash of the prompt, "
            f"{prompt_id(case.prompt)}"
        )
    order = [reference.person for reference in case.references]
    if order != sorted(order):
        raise ManifestError(f"{where}, key 'references': not in person order: {order}")
    known = {reference.ref_id for reference in case.references}
    for person in case.people:
        if person.ref_id not in known:
            raise ManifestError(
                f"{where}, key 'people': {person.ref_id} is no reference of the case"
            )
    if (case.edit is not None) != (case.kind == "edit_restoration"):
        raise ManifestError(f"{where}, key 'edit': edit_restoration cases have one, no others")


def _tags(value: object, where: str) -> dict[str, tuple[str, ...]]:
    if type(value) is not dict:
        raise ManifestError(f"{where}, key 'tags': expected an object, got {shown(value)}")
    for name, values in value.items():
        if type(values) is not list or not all(type(entry) is str for entry in values):
            raise ManifestError(
                f"{where}, key 'tags.{name}': expected a list of strings, got {shown(values)}"
            )
    return {name: tuple(values) for name, values in value.items()}


def _reference(record: Record) -> Reference:
    reference = Reference(
        ref_id=record.text("ref_id", _REF_ID),
        sha256=record.text("sha256", _HEX64),
        path=record.path("path"),
        source=record.text("source"),
        role=record.choice("role", ROLES),
        person=record.whole("person", 0),
        class_word=record.optional_text("class_word"),
        gender=record.optional_choice("gender", GENDERS),
        face_box=record.box("face_box", MAX_PIXELS),
    )
    record.done()
    if reference.ref_id != "r" + reference.sha256[:12]:
        raise record.fail("ref_id", f"r{reference.sha256[:12]}", reference.ref_id)
    return reference


def _source_row(record: Record) -> SourceRow:
    row = SourceRow(file=record.text("file"), row=record.whole("row", 0))
    record.done()
    return row


def _people(
    attrs: Record, kind: str, references: tuple[Reference, ...], where: str
) -> tuple[Person, ...]:
    if kind == "single_id":
        expression = attrs.optional_text("expression")
        orientation = attrs.optional_text("orientation")
        if expression is None and orientation is None:
            return ()
        if not references:
            raise ManifestError(f"{where}, key 'references': an expression needs a reference")
        ref_id = references[0].ref_id
        return (Person(person=0, ref_id=ref_id, expression=expression, orientation=orientation),)
    key = "subjects" if kind == "multi_subject" else "people"
    return tuple(map(_person, attrs.records(key))) if attrs.has(key) else ()


def _person(record: Record) -> Person:
    person = Person(
        person=record.whole("person", 0),
        ref_id=record.text("ref_id", _REF_ID),
        expression=record.optional_text("expression"),
        orientation=record.optional_text("orientation"),
        box=record.box("box", 1.0),
    )
    record.done()
    return person


def _file(record: Record) -> File:
    file = File(
        path=record.path("path"),
        sha256=record.text("sha256", _HEX64),
        source=record.optional_text("source"),
    )
    record.done()
    return file


def _optional_file(record: Record | None) -> File | None:
    return _file(record) if record else None


def _edit(record: Record | None) -> Edit | None:
    if record is None:
        return None
    edit = Edit(
        source=record.text("source"),
        original=_file(record.record("original")),
        edited=_file(record.record("edited")),
        restored=_optional_file(record.optional_record("restored")),
        instruction=record.optional_text("instruction"),
        elements=tuple(map(_element, record.records("elements"))),
        faces=tuple(map(_edit_face, record.records("faces"))),
        corruption=record.optional_choice("corruption", CORRUPTIONS),
        scenario=tuple(_scenario(record)),
        editor=record.optional_text("editor"),
    )
    record.done()
    return edit


def _scenario(record: Record) -> Iterator[str]:
    for value in record.sequence("scenario"):
        if type(value) is not str:
            raise record.fail("scenario", "a list of strings", value)
        yield value


def _element(record: Record) -> Element:
    element = Element(
        text=record.text("text"),
        mask=_optional_file(record.optional_record("mask")),
        person=record.whole("person", 0),
    )
    record.done()
    return element


def _edit_face(record: Record) -> EditFace:
    face = EditFace(
        person=record.whole("person", 0),
        original_box=record.box("original_box", MAX_PIXELS),
        edited_box=record.box("edited_box", MAX_PIXELS),
        restore=record.boolean("restore"),
    )
    record.done()
    return face
