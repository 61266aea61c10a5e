"""multiid-bench (Doby-Xu/WithAnyone@996d152): rows with one to four people and a ground truth."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from idbench.prompts.acquisition.catalogue import SOURCES
from idbench.prompts.acquisition.layouts import MULTIID_ROWS, image_named, multiid_rows
from idbench.prompts.builders.collecting import BuildOptions, Collector, finished_name
from idbench.prompts.cases import Box, File, Person, Reference, SourceRow
from idbench.prompts.freezing import suite_of
from idbench.prompts.references import identified, reference_of
from idbench.prompts.strict import ManifestError, Record, parse_json
from idbench.prompts.suite_info import SuiteInfo
from idbench.prompts.suites import Suite, SuiteSource

SUBSETS = ("v200_single", "v202", "v200_m")
MOST_PEOPLE = 4


def build(info: SuiteInfo, data_root: Path, options: BuildOptions) -> Suite:
    """Builds the suite from the folders of the rows.

    People keep the order of the reference images. Boxes go with them where there are as many boxes
    as people. The ground truth is kept out of the case id.

    Raises:
        PartialSourceError: If rows are missing and that was not allowed.
        ManifestError: If a row is malformed.
    """
    files = Collector("multiid_bench", data_root)
    rows = multiid_rows(files.root)
    files.missing.extend(f"row {number + 1}" for number in range(len(rows), MULTIID_ROWS))
    parts = [(row, _read_row(files, row)) for row in rows]
    name = finished_name(info, options, files.missing, expected=MULTIID_ROWS)
    cases = [
        identified(name, 1, **fields, source_rows=(SourceRow(file=row.name, row=0),))
        for row, fields in parts
        if fields
    ]
    return suite_of(
        cases,
        name=name,
        kind="multi_id",
        sources=(SuiteSource(name="multiid_bench", revision=SOURCES["multiid_bench"].revision),),
        expected={"rows": MULTIID_ROWS},
        metrics=("facesim", "copy_paste", "clip_t", "clip_i"),
        variants=options.recorded(info),
    )


def _read_row(files: Collector, row: Path) -> dict[str, object]:
    where = str(row / "meta.json")
    meta = Record(parse_json((row / "meta.json").read_bytes(), where), where)
    truth = image_named(row, "ori")
    pictures = [
        path
        for number in range(1, MOST_PEOPLE + 1)
        if (path := image_named(row, f"ref_{number}")) is not None
    ]
    if truth is None or not pictures:
        files.missing.append(f"{row.name}/{'ref_1' if truth else 'ori'}")
        return {}
    references = tuple(_reference(files, path, person) for person, path in enumerate(pictures))
    boxes = read_boxes(meta, truth, len(references)) if meta.has("bboxes") else None
    subset = meta.optional_text("subset") or ""
    return {
        "alias": row.name,
        "kind": "multi_id",
        "references": references,
        "prompt": meta.text("prompt"),
        "people": _people(references, boxes),
        "ground_truth": File(
            path=truth.relative_to(files.root).as_posix(),
            sha256=files.sha256(_path(files, truth)) or "",
        ),
        "layout_source": "multiid-bench" if boxes else None,
        "tags": {"people": (str(len(references)),), "subset": (subset,) if subset else ()},
    }


def _path(files: Collector, path: Path) -> str:
    return path.relative_to(files.root).as_posix()


def _reference(files: Collector, path: Path, person: int) -> Reference:
    relative = _path(files, path)
    sha256 = files.sha256(relative) or ""
    return reference_of(
        path=relative, sha256=sha256, source="multiid_bench", person=person, class_word="person"
    )


def _people(references: Sequence[Reference], boxes: Sequence[Box] | None) -> tuple[Person, ...]:
    people = tuple(
        Person(person=place, ref_id=reference.ref_id) for place, reference in enumerate(references)
    )
    if boxes is None:
        return people
    return tuple(replace(person, box=box) for person, box in zip(people, boxes, strict=True))


def read_boxes(meta: Record, truth: Path, people: int) -> list[Box] | None:
    """The boxes of a row as relative ones; None where there is not one per person.

    The column is a JSON string, or already decoded; values above 1 are pixels of the ground truth.

    Raises:
        ManifestError: If it is anything else.
    """
    value = meta.take("bboxes")
    if isinstance(value, str):
        value = parse_json(value, f"{truth.parent / 'meta.json'}, key 'bboxes'")
    if not isinstance(value, list):
        raise meta.fail("bboxes", "a list of boxes", value)
    if len(value) != people:
        return None
    with Image.open(truth) as image:
        width, height = image.size
    boxes = []
    for entry in value:
        good = isinstance(entry, list) and len(entry) == 4
        if not good or not all(type(edge) in (int, float) for edge in entry):
            raise ManifestError(f"{truth.parent.name}: a box has four numbers, got {entry!r}")
        x0, y0, x1, y1 = (float(edge) for edge in entry)
        if max(x0, y0, x1, y1) > 1:
            x0, y0, x1, y1 = x0 / width, y0 / height, x1 / width, y1 / height
        x0, y0, x1, y1 = (min(1.0, max(0.0, edge)) for edge in (x0, y0, x1, y1))
        if not (x0 < x1 and y0 < y1):
            raise ManifestError(f"{truth.parent.name}: an empty box {entry!r}")
        boxes.append((x0, y0, x1, y1))
    return boxes
