"""The case model: what a suite asks for, with content-addressed ids and hashed seeds."""

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["single_id", "multi_id", "subject", "multi_subject", "edit_restoration"]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """One input image. `path` is relative to the root of `source`; `face_box` is in pixels."""

    ref_id: str
    sha256: str
    path: str
    source: str
    role: Literal["identity", "subject", "style", "scene", "wearing"] = "identity"
    person: int = 0
    class_word: str | None = None
    gender: Literal["female", "male", "unknown"] | None = None
    face_box: Box | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """What a case asks of one person, left to right. `box` is relative, in [0, 1]."""

    person: int
    ref_id: str
    expression: str | None = None
    orientation: Literal["front", "side", "up", "down"] | str | None = None
    box: Box | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """A file by content; `path` is relative to the root of `source`.

    Without a `source` it lies in that of its owner: `Edit.source` for the files of an edit, the
    source of the first reference for a ground truth.
    """

    path: str
    sha256: str
    source: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Element:
    """A part of an edit that must survive, with its mask (PNG, white is the element) if known."""

    text: str
    mask: File | None = None
    person: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class EditFace:
    """One face of an edit: where it was, where it is now, and whether to restore it (pixels)."""

    person: int
    original_box: Box | None = None
    edited_box: Box | None = None
    restore: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Edit:
    """The edited image of an edit-restoration case and the original it was made from."""

    original: File
    edited: File
    source: str
    instruction: str | None = None
    elements: tuple[Element, ...] = ()
    faces: tuple[EditFace, ...] = ()
    corruption: Literal["high", "low"] | None = None
    scenario: tuple[str, ...] = ()
    editor: str | None = None
    restored: File | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceRow:
    """Where a case comes from in the upstream file."""

    file: str
    row: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """References x prompt x attributes: one thing to generate.

    `people` has one entry per person (one for single_id cases that ask for an expression or an
    orientation). `multiplicity` is how often the case occurs upstream.
    """

    case_id: str
    alias: str
    kind: Kind
    references: tuple[Reference, ...]
    prompt: str
    prompt_id: str
    people: tuple[Person, ...] = ()
    edit: Edit | None = None
    category: str | None = None
    subject: str | None = None
    difficulty: str | None = None
    segment_query: str | None = None
    combination: str | None = None
    target_gender: str | None = None
    pose_axis: Literal["yaw", "pitch"] | None = None
    layout_source: str | None = None
    ground_truth: File | None = None
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    multiplicity: int = 1
    source_rows: tuple[SourceRow, ...] = ()

    @property
    def identity(self) -> str:
        """The identities of the case as one string: the unit that bootstrap resamples."""
        return "+".join(reference.ref_id for reference in self.references)


# one encoder for all calls: json.dumps with options makes a new one each time
_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def canonical_json(payload: Mapping[str, object]) -> bytes:
    """The bytes that ids are hashed from: sorted keys, no blanks, NFC strings, UTF-8.

    Raises:
        TypeError: If the payload holds a float or None; floats are written as strings first.
    """
    return _ENCODER.encode(_normalised(payload)).encode()


def _normalised(value: object) -> object:
    if isinstance(value, str):
        return value if value.isascii() else unicodedata.normalize("NFC", value)
    if isinstance(value, bool | int):
        return value
    if isinstance(value, Mapping):
        return {_normalised(key): _normalised(entry) for key, entry in value.items()}
    if isinstance(value, Sequence):
        return [_normalised(entry) for entry in value]
    raise TypeError(f"a case payload holds strings, whole numbers, lists and maps, not {value!r}")


def case_id(
    *,
    suite: str,
    version: int,
    kind: Kind,
    refs: Sequence[str],
    prompt: str,
    attrs: Mapping[str, object],
) -> str:
    """`c` and 16 hex digits, the hash of what is generated and of nothing else.

    `refs` are the sha256 of the references in person order; `attrs` holds only what changes the
    image (expression, orientation, boxes, target_gender; for edits original, edited, elements).
    """
    payload = {
        "suite": suite,
        "version": version,
        "kind": kind,
        "refs": list(refs),
        "prompt": prompt,
        "attrs": attrs,
    }
    return "c" + hashlib.sha256(canonical_json(payload)).hexdigest()[:16]


def generated_attrs(case: Case) -> dict[str, object]:
    """The attributes of a case that change what is generated, as `case_id` takes them.

    Absent values are left out; where only some people of a case have one, the others hold "".
    """
    attrs: dict[str, object] = {}
    for name in ("expression", "orientation"):
        asked: list[str] = [getattr(person, name) or "" for person in case.people]
        if any(asked):
            attrs[name] = asked[0] if case.kind == "single_id" else asked
    if any(person.box for person in case.people):
        attrs["boxes"] = [box_attr(person.box) if person.box else [] for person in case.people]
    if case.target_gender:
        attrs["target_gender"] = case.target_gender
    if case.edit:
        attrs["original"] = case.edit.original.sha256
        attrs["edited"] = case.edit.edited.sha256
        attrs["elements"] = [element.text for element in case.edit.elements]
    return attrs


def identify(case: Case, *, suite: str, version: int) -> str:
    """The id that `case` must carry in version `version` of `suite`."""
    return case_id(
        suite=suite,
        version=version,
        kind=case.kind,
        refs=[reference.sha256 for reference in case.references],
        prompt=case.prompt,
        attrs=generated_attrs(case),
    )


def box_attr(box: Box) -> list[str]:
    """A box as `case_id` takes it: four strings with four decimals."""
    return [f"{edge:.4f}" for edge in box]


def prompt_id(prompt: str) -> str:
    """`p` and 12 hex digits of the sha256 of the prompt in NFC."""
    text = unicodedata.normalize("NFC", prompt)
    return "p" + hashlib.sha256(text.encode()).hexdigest()[:12]


def hashed_seed(case: str, sample: int) -> int:
    """Seed of sample `sample` of case id `case`, in [0, 2**31): independent of order and sharding.

    The two arms of a comparison share it by construction.
    """
    digest = hashlib.sha256(f"idbench/seed/1:{case}:{sample}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF
