"""Edited and restored images: a folder per case, or a CSV with one row per case."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from idbench.prompts.acquisition.layouts import image_named
from idbench.prompts.files import write_whole
from idbench.prompts.formats.collected import Collected
from idbench.prompts.formats.copying import copied
from idbench.prompts.formats.paths import PathRules
from idbench.prompts.formats.unit import EditedFiles, Reading, Unit
from idbench.prompts.strict import ManifestError, Record, parse_json, read_utf8, shown

_CORRUPTIONS: dict[str, Literal["high", "low"] | None] = {"": None, "high": "high", "low": "low"}
COLUMNS = (
    "original",
    "edited",
    "restored",
    "elements",
    "masks",
    "instruction",
    "scenario",
    "corruption",
    "editor",
    "restore_person",
    "alias",
)


def read(path: Path, rules: PathRules) -> Reading:
    """Reads `<case>/{original,edited,restored}.*` with `element.txt`, `mask_<n>.*`, `meta.json`.

    In a CSV the columns have the same names; elements, masks and scenarios are separated by `;`.
    A text that is the same for all elements is not needed: a case without elements is allowed.

    Raises:
        ManifestError: If there is nothing of the kind, or a file is malformed.
    """
    found = Collected(rules)
    if path.is_file():
        _read_csv(path, found)
    else:
        folders = sorted(p for p in path.iterdir() if p.is_dir() and image_named(p, "edited"))
        if not folders:
            raise ManifestError(f"{path} has no folders with an edited.png or edited.jpg")
        for row, folder in enumerate(folders):
            _read_folder(folder, row, found)
    return found.reading()


def _read_folder(folder: Path, row: int, found: Collected) -> None:
    found.rows += 1
    files = {name: image_named(folder, name) for name in ("original", "edited", "restored")}
    for name, file in files.items():
        if file is None:
            found.note("missing", folder.name, name)
    if not files["original"] or not files["edited"]:
        return
    lines: list[str] = []
    if (folder / "element.txt").is_file():
        text = read_utf8(folder / "element.txt")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
    masks = [image_named(folder, f"mask_{number}") for number in range(len(lines))]
    meta = _Meta()
    if (folder / "meta.json").is_file():
        where = str(folder / "meta.json")
        meta = _meta(Record(parse_json((folder / "meta.json").read_bytes(), where), where))
    _add(folder.name, row, files, lines, masks, meta, found)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Meta:
    instruction: str | None = None
    editor: str | None = None
    corruption: Literal["high", "low"] | None = None
    scenario: tuple[str, ...] = ()
    restore_person: int | None = None


def _meta(record: Record) -> _Meta:
    scenario: object = record.take("scenario") if record.has("scenario") else []
    values = [scenario] if isinstance(scenario, str) else scenario
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise record.fail("scenario", "a text or a list of texts", scenario)
    meta = _Meta(
        instruction=record.optional_text("instruction"),
        editor=record.optional_text("editor"),
        corruption=record.optional_choice("corruption", ("high", "low")),
        scenario=tuple(values),
        restore_person=record.whole("restore_person", 0) if record.has("restore_person") else None,
    )
    record.done()
    return meta


def _read_csv(path: Path, found: Collected) -> None:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            header = reader.fieldnames or []
            unknown = [name for name in header if name not in COLUMNS]
            if unknown or "original" not in header or "edited" not in header:
                raise ManifestError(
                    f"{path}: columns are {', '.join(COLUMNS)}; original and edited are needed; "
                    f"got {shown(list(header))}"
                )
            for number, row in enumerate(reader):
                where = f"{path.name}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise ManifestError(f"{where}: not as many values as columns")
                _read_row(row, number, where, found)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: not CSV in UTF-8: {error}") from error


def _read_row(row: Mapping[str, str], number: int, where: str, found: Collected) -> None:
    found.rows += 1
    files = {
        name: found.find(row[name], where, name) if row.get(name) else None
        for name in ("original", "edited", "restored")
    }
    if not row.get("restored"):
        found.note("missing", where, "restored")
    elements = [text.strip() for text in row.get("elements", "").split(";") if text.strip()]
    named = [text.strip() for text in row.get("masks", "").split(";")] if row.get("masks") else []
    masks = [found.find(text, where, "mask") if text else None for text in named]
    masks += [None] * (len(elements) - len(masks))
    if len(masks) != len(elements):
        raise ManifestError(f"{where}: {len(masks)} masks for {len(elements)} elements")
    person, level = row.get("restore_person", ""), row.get("corruption", "")
    if level not in _CORRUPTIONS or (person and not person.isdecimal()):
        raise ManifestError(
            f"{where}: corruption must be high or low and restore_person a whole number"
        )
    meta = _Meta(
        instruction=row.get("instruction") or None,
        editor=row.get("editor") or None,
        corruption=_CORRUPTIONS[level],
        scenario=tuple(s.strip() for s in row.get("scenario", "").split(";") if s.strip()),
        restore_person=int(person) if person else None,
    )
    if files["original"] and files["edited"]:
        alias = row.get("alias") or Path(row["edited"]).stem
        _add(alias, number, files, elements, masks, meta, found)


def _add(
    alias: str,
    row: int,
    files: Mapping[str, Path | None],
    elements: Sequence[str],
    masks: Sequence[Path | None],
    meta: _Meta,
    found: Collected,
) -> None:
    original, edited = files["original"], files["edited"]
    if original is None or edited is None:
        return
    found.units.append(
        Unit(
            image=files["restored"],
            references=(original,),
            prompt=meta.instruction or "",
            kind="edit_restoration",
            edit=EditedFiles(
                original=original,
                edited=edited,
                elements=tuple(elements),
                masks=tuple(masks),
                instruction=meta.instruction,
                corruption=meta.corruption,
                scenario=meta.scenario,
                editor=meta.editor,
                restore_person=meta.restore_person,
            ),
            tags={
                "corruption": (meta.corruption,) if meta.corruption else (),
                "elements": (str(len(elements)),),
                "scenario": meta.scenario,
            },
            alias=alias,
            file=alias,
            row=row,
        )
    )


def write(units: Sequence[Unit], target: Path) -> Path:
    """Writes one folder per unit, named by its alias.

    Raises:
        ManifestError: If a unit has no image, is no edit, or its alias is no folder name.
    """
    for unit in units:
        edit = unit.edit
        name = unit.alias if not unit.sample else f"{unit.alias}-{unit.sample}"
        if edit is None or unit.image is None or "/" in name or name.startswith("."):
            raise ManifestError(f"{unit.alias!r} needs an edit, an image and a plain alias")
        copied(edit.original, target, name, "original")
        copied(edit.edited, target, name, "edited")
        copied(unit.image, target, name, "restored")
        for number, mask in enumerate(edit.masks):
            if mask:
                copied(mask, target, name, f"mask_{number}")
        if edit.elements:
            text = "".join(f"{element}\n" for element in edit.elements)
            write_whole(target / name / "element.txt", [text.encode()])
        meta = {
            "instruction": edit.instruction,
            "scenario": list(edit.scenario),
            "corruption": edit.corruption,
            "editor": edit.editor,
            "restore_person": edit.restore_person,
        }
        present = {key: value for key, value in meta.items() if value not in (None, [])}
        text = json.dumps(present, ensure_ascii=False, indent=1) + "\n"
        write_whole(target / name / "meta.json", [text.encode()])
    return target
