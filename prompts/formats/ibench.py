"""The `datas` JSON of IBench: a row per generated image, with its counterpart without identity."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from idbench.prompts.files import write_whole
from idbench.prompts.formats.collected import Collected
from idbench.prompts.formats.copying import copied
from idbench.prompts.formats.paths import PathRules
from idbench.prompts.formats.unit import Reading, Unit
from idbench.prompts.strict import ManifestError, Record, parse_json

_KNOWN = ("num", "id", "prompt", "prompt_attr", "prompt_style", "imagewithid", "imagewithoutid")


def read(path: Path, rules: PathRules) -> Reading:
    """Reads a datas file.

    A row needs `id` and `imagewithid`; other keys than the known ones become tags if they are
    texts. Rows that are equal in all but `num` are counted: joining two lists that repeat a prompt
    n times yields n x n rows.

    Raises:
        ManifestError: If the file is no such list, naming row and key.
    """
    where = str(path)
    document = Record(parse_json(path.read_bytes(), where), where)
    tags = document.record("tags")
    if tags.take("category") != "imageid":
        raise tags.fail("category", "imageid", "another category")
    rows = document.sequence("datas")
    found = Collected(rules)
    extra: Counter[str] = Counter()
    equal: Counter[str] = Counter()
    for number, row in enumerate(rows):
        _read_row(Record(row, f"{where}, datas[{number}]"), row, number, path.name, found, extra)
        same = {key: value for key, value in row.items() if key != "num"}
        equal[json.dumps(same, sort_keys=True, default=str)] += 1
    found.rows = len(rows)
    return found.reading(notes=tuple(_notes(len(rows), equal, extra)))


def _notes(rows: int, equal: Counter[str], extra: Counter[str]) -> list[str]:
    notes = []
    if rows > len(equal):
        notes.append(
            f"{rows} rows, {len(equal)} different ones: a factor of {rows / len(equal):.3f}; if "
            "two lists were joined that repeat prompts, the repetitions were multiplied"
        )
    if extra:
        shown = ", ".join(sorted(extra))
        notes.append(f"keys that the format does not have were kept as tags: {shown}")
    return notes


def _read_row(
    record: Record,
    row: dict[str, Any],
    number: int,
    file: str,
    found: Collected,
    extra: Counter[str],
) -> None:
    where = f"{file}, row {number}"
    reference = found.find(record.text("id"), where, "reference")
    text = record.text("imagewithid")
    image = found.find(text, where, "image")
    base_text = record.optional_text("imagewithoutid")
    base = found.find(base_text, where, "image without identity") if base_text else None
    num = record.whole("num", 0) if record.has("num") else number
    prompt = record.optional_text("prompt") or ""
    tags = {key: _texts(record, key) for key in ("prompt_attr", "prompt_style") if record.has(key)}
    for key in row:
        if key not in _KNOWN:
            extra[key] += 1
            tags[key] = (str(row[key]),)
    if reference is None:
        return
    found.units.append(
        Unit(
            image=image,
            references=(reference,),
            prompt=prompt,
            base=base,
            tags=tags,
            alias=f"{reference.stem}-{num}",
            file=file,
            row=num,
        )
    )


def _texts(record: Record, key: str) -> tuple[str, ...]:
    values = record.take(key)
    if isinstance(values, str):
        return (values,)
    if type(values) is not list or not all(type(value) is str for value in values):
        raise record.fail(key, "a list of strings", values)
    return tuple(values)


def write(units: Sequence[Unit], target: Path) -> Path:
    """Writes `datas.json` and its pictures below `target`; returns the JSON file.

    Paths are relative, and no two pictures share a basename: the official scorer copies all
    pictures of a list into one flat folder.

    Raises:
        ManifestError: If a unit has no image or not exactly one reference.
    """
    rows = []
    for number, unit in enumerate(units):
        if unit.image is None or len(unit.references) != 1:
            raise ManifestError(f"unit {number} ({unit.alias}) needs an image and one reference")
        stem = f"{number:06d}"
        row: dict[str, Any] = {
            "num": number,
            "id": copied(unit.references[0], target, "id"),
            "prompt": unit.prompt,
            "prompt_attr": list(unit.tags.get("prompt_attr", ())),
            "prompt_style": list(unit.tags.get("prompt_style", ())),
            "imagewithid": copied(unit.image, target, "imagewithid", f"{stem}_with"),
        }
        if unit.base:
            row["imagewithoutid"] = copied(unit.base, target, "imagewithoutid", f"{stem}_without")
        rows.append(row)
    document = {"datas": rows, "tags": {"category": "imageid"}}
    text = json.dumps(document, ensure_ascii=False, indent=2) + "\n"
    write_whole(target / "datas.json", [text.encode()])
    return target / "datas.json"
