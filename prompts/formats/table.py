"""A table with one row per image: CSV, JSON lines or Parquet."""

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from idbench.prompts.acquisition.hub_rows import parquet_rows
from idbench.prompts.cases import Box, Kind
from idbench.prompts.files import write_whole
from idbench.prompts.formats.collected import Collected
from idbench.prompts.formats.copying import copied
from idbench.prompts.formats.paths import PathRules
from idbench.prompts.formats.unit import Asked, Reading, Unit
from idbench.prompts.strict import ManifestError, parse_json, shown

MOST_REFERENCES = 4
_FIELDS = ("image", "prompt", "without_id", "category", "subject", "case_id", "reference")
_WHOLE = ("sample", "seed")
_ASKED = ("expression", "orientation", "box")
_NUMBERED = ("reference", *_ASKED)


def read(path: Path, rules: PathRules) -> Reading:
    """Reads a table by its suffix: .csv, .jsonl or .parquet.

    `image` is needed in every row; `reference` or `reference_0` to `reference_3`, `prompt`,
    `without_id`, `sample`, `seed`, `expression`, `orientation`, `box` (each also numbered),
    `category`, `subject` and `case_id` are known; any other column becomes a tag, with
    `;` between several values.

    Raises:
        ManifestError: If the table cannot be read, or a value is malformed, naming the row.
    """
    found = Collected(rules)
    for number, row in enumerate(_rows(path), start=1):
        found.rows += 1
        where = f"{path.name}, row {number}"
        values = {key: value for key, value in row.items() if not _empty(value)}
        unit = _unit(values, where, path.name, number, found)
        if unit:
            found.units.append(unit)
    return found.reading()


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        try:
            yield from parquet_rows([path])
        except ValueError as error:
            raise ManifestError(str(error)) from error
    elif suffix in (".jsonl", ".ndjson"):
        yield from _json_rows(path)
    elif suffix == ".csv":
        yield from _csv_rows(path)
    else:
        raise ManifestError(f"{path}: a table is .csv, .jsonl or .parquet, not {suffix!r}")


def _json_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            row = parse_json(line, f"{path}, line {number}")
            if not isinstance(row, dict):
                raise ManifestError(f"{path}, line {number}: expected an object, got {shown(row)}")
            yield row


def _csv_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header = next(reader, [])
            if "image" not in header or len(set(header)) != len(header):
                raise ManifestError(
                    f"{path}: the first line must name the columns, each once, with 'image' "
                    f"among them; got {shown(header)}"
                )
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise ManifestError(
                        f"{path}, line {reader.line_num}: {len(row)} values for {len(header)} "
                        "columns"
                    )
                yield dict(zip(header, row, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: not CSV in UTF-8: {error}") from error


def _empty(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _unit(values: dict[str, Any], where: str, file: str, row: int, found: Collected) -> Unit | None:
    image = found.find(_text(values, "image", where, needed=True), where, "image")
    names = ["reference", *(f"reference_{i}" for i in range(MOST_REFERENCES))]
    texts = [_text(values, name, where) for name in names if name in values]
    references = [found.find(text, where, "reference") for text in texts]
    base_text = _text(values, "without_id", where) if "without_id" in values else ""
    base = found.find(base_text, where, "image without identity") if base_text else None
    category, subject = (
        _text(values, name, where) if name in values else None for name in ("category", "subject")
    )
    asked = _asked(values, len(references), where)
    kind: Kind = "single_id"
    if len(references) > 1:
        kind = "multi_id"
    elif category or subject:
        kind = "subject"
    if any(reference is None for reference in references):
        return None
    known = {*_FIELDS, *_WHOLE, *_ASKED}
    known |= {f"{name}_{i}" for name in _NUMBERED for i in range(MOST_REFERENCES)}
    return Unit(
        image=image,
        references=tuple(reference for reference in references if reference),
        prompt=_text(values, "prompt", where) if "prompt" in values else "",
        kind=kind,
        base=base,
        sample=_whole(values, "sample", where),
        seed=_whole(values, "seed", where),
        case_id=_text(values, "case_id", where) if "case_id" in values else None,
        asked=asked,
        category=category,
        subject=subject,
        tags={key: tuple(str(values[key]).split(";")) for key in sorted(values.keys() - known)},
        alias=Path(str(values["image"])).stem,
        file=file,
        row=row,
    )


def _text(values: Mapping[str, Any], key: str, where: str, *, needed: bool = False) -> str:
    value = values.get(key)
    if isinstance(value, str):
        return value
    if value is None and not needed:
        return ""
    raise ManifestError(f"{where}, column {key!r}: expected a text, got {shown(value)}")


def _whole(values: Mapping[str, Any], key: str, where: str) -> int | None:
    value = values.get(key)
    if value is None:
        return None
    try:
        number = int(str(value))
    except ValueError:
        number = -1
    if not 0 <= number < 2**31:
        raise ManifestError(f"{where}, column {key!r}: expected a whole number, got {shown(value)}")
    return number


def _asked(values: Mapping[str, Any], people: int, where: str) -> tuple[Asked, ...]:
    entries = []
    for index in range(max(1, people)):
        names = {name: f"{name}_{index}" for name in _ASKED}
        if people <= 1:  # one person needs no number
            names = {n: numbered if numbered in values else n for n, numbered in names.items()}
        entries.append(
            Asked(
                expression=_text(values, names["expression"], where) or None,
                orientation=_text(values, names["orientation"], where) or None,
                box=_box(values.get(names["box"]), names["box"], where),
            )
        )
    return tuple(entries) if any(entry != Asked() for entry in entries) else ()


def _box(value: object, key: str, where: str) -> Box | None:
    if value is None:
        return None
    edges = parse_json(value, f"{where}, column {key!r}") if isinstance(value, str) else value
    if isinstance(edges, list) and len(edges) == 4 and all(type(e) in (int, float) for e in edges):
        x0, y0, x1, y1 = map(float, edges)
        if 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1:
            return (x0, y0, x1, y1)
    raise ManifestError(
        f"{where}, column {key!r}: expected [x0, y0, x1, y1] in [0, 1], got {shown(value)}"
    )


def write(units: Sequence[Unit], target: Path) -> Path:
    """Writes `units.csv` and its pictures below `target`; returns the table.

    Raises:
        ManifestError: If a unit has no image.
    """
    rows = []
    for number, unit in enumerate(units):
        if unit.image is None:
            raise ManifestError(f"unit {number} ({unit.alias}) has no image")
        stem = f"{number:06d}"
        row: dict[str, object] = {"image": copied(unit.image, target, "images", stem)}
        for index, reference in enumerate(unit.references):
            row[f"reference_{index}"] = copied(reference, target, "references")
        row |= {"prompt": unit.prompt, "sample": unit.sample, "seed": unit.seed}
        row |= {"category": unit.category, "subject": unit.subject}
        if unit.base:
            row["without_id"] = copied(unit.base, target, "without_id", stem)
        for index, asked in enumerate(unit.asked):
            row[f"expression_{index}"] = asked.expression
            row[f"orientation_{index}"] = asked.orientation
            row[f"box_{index}"] = json.dumps(asked.box) if asked.box else None
        row |= {key: ";".join(value) for key, value in unit.tags.items()}
        rows.append({key: value for key, value in row.items() if not _empty(value)})
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [_csv_line(columns)]
    lines += [_csv_line([row.get(column, "") for column in columns]) for row in rows]
    write_whole(target / "units.csv", (line.encode() for line in lines))
    return target / "units.csv"


class _Line:
    """A file for one line of CSV."""

    text = ""

    def write(self, text: str) -> int:
        self.text = text
        return len(text)


def _csv_line(values: Sequence[object]) -> str:
    line = _Line()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.text
