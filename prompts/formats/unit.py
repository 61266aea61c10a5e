"""One generated image of somebody else's run, with what it was asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from idbench.prompts.cases import Box, Kind

ProblemKind = Literal["missing", "unreadable", "refused", "unknown"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Why a row, or a file that it names, cannot be used. `where` is the file and row."""

    kind: ProblemKind
    where: str
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What was asked of one person or subject, in the order of the references."""

    expression: str | None = None
    orientation: str | None = None
    box: Box | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class EditedFiles:
    """The files of an edit. `masks` has one entry per element, None where there is no mask."""

    original: Path
    edited: Path
    elements: tuple[str, ...] = ()
    masks: tuple[Path | None, ...] = ()
    instruction: str | None = None
    corruption: Literal["high", "low"] | None = None
    scenario: tuple[str, ...] = ()
    editor: str | None = None
    restore_person: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """An image and its case as files. `image` is None where it is missing.

    `base` is the image of the base model for the same prompt, `sample` the repetition if the layout
    says so, `seed` the seed if it was noted. `case_id` is set where a row names a case of a suite.
    """

    image: Path | None
    references: tuple[Path, ...] = ()
    prompt: str = ""
    kind: Kind = "single_id"
    base: Path | None = None
    sample: int | None = None
    seed: int | None = None
    case_id: str | None = None
    asked: tuple[Asked, ...] = ()
    category: str | None = None
    subject: str | None = None
    difficulty: str | None = None
    class_word: str | None = None
    gender: Literal["female", "male", "unknown"] | None = None
    ground_truth: Path | None = None
    edit: EditedFiles | None = None
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    alias: str = ""
    file: str = ""
    row: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a reader found. `parameters` go to the record of the run, `notes` to the user."""

    units: tuple[Unit, ...]
    rows: int
    problems: tuple[Problem, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
