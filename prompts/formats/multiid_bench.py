"""The folders of MultiID-Bench: `<id>/{out,ref_1..4,ori}.* and meta.json`."""

import json
from collections.abc import Sequence
from pathlib import Path

from idbench.prompts.acquisition.layouts import image_named
from idbench.prompts.builders.multiid_bench import MOST_PEOPLE, read_boxes
from idbench.prompts.files import write_whole
from idbench.prompts.formats.collected import Collected
from idbench.prompts.formats.copying import copied
from idbench.prompts.formats.paths import PathRules
from idbench.prompts.formats.unit import Asked, Reading, Unit
from idbench.prompts.strict import ManifestError, Record, parse_json


def read(path: Path, rules: PathRules) -> Reading:
    """Reads the folders below `path` that have a `meta.json`.

    Raises:
        ManifestError: If there is none, or a `meta.json` is malformed.
    """
    folders = sorted(file.parent for file in path.glob("*/meta.json"))
    if not folders:
        raise ManifestError(f"{path} has no folders with a meta.json")
    found = Collected(rules)
    for row, folder in enumerate(folders):
        found.rows += 1
        where = str(folder / "meta.json")
        meta = Record(parse_json((folder / "meta.json").read_bytes(), where), where)
        numbers = range(1, MOST_PEOPLE + 1)
        pictures = tuple(p for n in numbers if (p := image_named(folder, f"ref_{n}")) is not None)
        truth = image_named(folder, "ori")
        image = image_named(folder, "out")
        for name, present in (("out", image), ("ref_1", pictures), ("ori", truth)):
            if not present:
                found.note("missing", folder.name, name)
        if not pictures:
            continue
        boxes = None
        if truth and meta.has("bboxes"):
            boxes = read_boxes(meta, truth, len(pictures))
        subset = meta.optional_text("subset") if meta.has("subset") else None
        found.units.append(
            Unit(
                image=image,
                references=pictures,
                prompt=meta.text("prompt"),
                kind="multi_id",
                asked=tuple(Asked(box=box) for box in boxes or ()),
                ground_truth=truth,
                class_word="person",
                tags={
                    "people": (str(len(pictures)),),
                    "subset": (subset,) if subset else (),
                },
                alias=folder.name,
                file=folder.name,
                row=row,
            )
        )
    return found.reading()


def write(units: Sequence[Unit], target: Path) -> Path:
    """Writes one folder per unit, named by its alias.

    Raises:
        ManifestError: If a unit has no image, no ground truth or an alias that is no folder name.
    """
    for unit in units:
        name = unit.alias if not unit.sample else f"{unit.alias}-{unit.sample}"
        if unit.image is None or unit.ground_truth is None or "/" in name or name.startswith("."):
            raise ManifestError(f"{unit.alias!r} needs an image, a ground truth and a plain alias")
        copied(unit.image, target, name, "out")
        copied(unit.ground_truth, target, name, "ori")
        for number, reference in enumerate(unit.references, start=1):
            copied(reference, target, name, f"ref_{number}")
        meta: dict[str, object] = {"prompt": unit.prompt, "num_persons": len(unit.references)}
        if unit.tags.get("subset"):
            meta["subset"] = unit.tags["subset"][0]
        if unit.asked and all(asked.box for asked in unit.asked):
            meta["bboxes"] = [list(asked.box or ()) for asked in unit.asked]
        text = json.dumps(meta, ensure_ascii=False, indent=1) + "\n"
        write_whole(target / name / "meta.json", [text.encode()])
    return target
