"""Making references and cases: ids that follow from content, words that follow from gender."""

import unicodedata
from dataclasses import replace
from typing import Any, Literal

from idbench.prompts.cases import Box, Case, Reference, identify, prompt_id

Gender = Literal["female", "male", "unknown"]

# IBench keeps a gender beside a `{person}` placeholder; no other use of it exists (suites.md 4.1).
CLASS_WORDS: dict[Gender, str] = {"female": "woman", "male": "man", "unknown": "person"}


def reference_of(
    *,
    path: str,
    sha256: str,
    source: str,
    role: Literal["identity", "subject", "style", "scene", "wearing"] = "identity",
    person: int = 0,
    class_word: str | None = None,
    gender: Gender | None = None,
    face_box: Box | None = None,
) -> Reference:
    """A reference with the id that its content gives it."""
    return Reference(
        ref_id="r" + sha256[:12],
        sha256=sha256,
        path=path,
        source=source,
        role=role,
        person=person,
        class_word=class_word,
        gender=gender,
        face_box=face_box,
    )


def identified(suite: str, version: int, **fields: Any) -> Case:
    """A case with its id in the suite and the id of its prompt, which is brought into NFC."""
    fields["prompt"] = unicodedata.normalize("NFC", fields["prompt"])
    case = Case(case_id="", prompt_id=prompt_id(fields["prompt"]), **fields)
    return replace(case, case_id=identify(case, suite=suite, version=version))


def pose_axis(orientation: str | None) -> Literal["yaw", "pitch"] | None:
    """The angle that an orientation is judged by: pitch for up and down, else yaw."""
    if orientation is None:
        return None
    return "pitch" if orientation in ("up", "down") else "yaw"
