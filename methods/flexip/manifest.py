"""What a training set is made of: a JSONL manifest, one subject per line.

A record has `subject_id`, `modality` ("image", "video" or "multiview"), and either `image` with
`caption`, or `frames`, a list, with `captions`, a list of the same length, or one `caption` for
all. Paths are relative to the manifest.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

Modality = Literal["image", "video", "multiview"]

_KEYS = {"subject_id", "modality", "image", "frames", "caption", "captions"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """Pictures of one subject, each with its caption: one for an image, two or more otherwise."""

    subject_id: str
    modality: Modality
    frames: tuple[Path, ...]
    captions: tuple[str, ...]

    @property
    def varied(self) -> bool:
        """Whether target and reference are different pictures (equation 5's D_vid)."""
        return self.modality != "image"


def read_manifest(path: Path) -> Iterator[Record]:
    """The records of a manifest, in its order.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line is no record; the message names file, line and key.
    """
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                yield _record(json.loads(line), path.parent)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error


def _record(content: Any, folder: Path) -> Record:
    if not isinstance(content, dict):
        raise ValueError(f"must be an object, got {type(content).__name__}")
    if unknown := sorted(map(str, content.keys() - _KEYS)):
        raise ValueError(f"unknown keys {', '.join(unknown)}; known: {', '.join(sorted(_KEYS))}")
    subject_id: Any = content.get("subject_id")
    modality: Any = content.get("modality")
    if not isinstance(subject_id, str) or not subject_id:
        raise ValueError(f"subject_id must be a text that is not empty, got {subject_id!r}")
    if modality not in get_args(Modality):
        raise ValueError(f"modality must be one of {get_args(Modality)}, got {modality!r}")
    frames = _one_or_list(content, "image", "frames")
    captions = _one_or_list(content, "caption", "captions")
    if (modality == "image") != (len(frames) == 1):
        raise ValueError(
            f"modality {modality!r} with {len(frames)} pictures; an image has one, video and "
            "multiview have two or more"
        )
    if len(captions) == 1:
        captions = captions * len(frames)
    if len(captions) != len(frames):
        raise ValueError(
            f"{len(frames)} pictures and {len(captions)} captions; give one each, or one for all"
        )
    return Record(
        subject_id=subject_id,
        modality=modality,
        frames=tuple(folder / name for name in frames),
        captions=captions,
    )


def _one_or_list(content: dict[str, Any], one: str, several: str) -> tuple[str, ...]:
    if (one in content) == (several in content):
        raise ValueError(f"must have either {one} or {several}")
    value = content.get(several, [content.get(one)])
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise ValueError(f"{one} must be a text, {several} a list of texts, got {value!r}")
    return tuple(value)
