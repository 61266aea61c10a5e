"""The folder of DreamBench++: `{src_image,tgt_image,text}/<collection_id>/<prompt>_<sample>.*`."""

import re
from collections.abc import Sequence
from pathlib import Path

from idbench.prompts.acquisition.layouts import IMAGE_SUFFIXES
from idbench.prompts.builders.dreambench_plus import CATEGORIES, collection_id, difficulty
from idbench.prompts.files import sha256_of, write_whole
from idbench.prompts.formats.collected import Collected
from idbench.prompts.formats.copying import copied
from idbench.prompts.formats.paths import PathRules
from idbench.prompts.formats.unit import Reading, Unit
from idbench.prompts.strict import ManifestError, read_utf8

_NAME = re.compile(r"(\d{1,6})_(\d{1,6})")
_COLLECTION = re.compile(rf"(?:live_subject_)?({'|'.join(CATEGORIES)})_([^_]+)_(.+)")


def parse_collection(name: str) -> tuple[str, str, str] | None:
    """Category, number and subject of a collection id; None where it is none."""
    match = _COLLECTION.fullmatch(name)
    return (match[1], match[2], match[3].replace("_", " ")) if match else None


def read(path: Path, rules: PathRules) -> Reading:
    """Reads the folder of one method. Files are matched by name, never by position.

    Raises:
        ManifestError: If `path` does not have the layout.
    """
    for name in ("src_image", "tgt_image", "text"):
        if not (path / name).is_dir():
            raise ManifestError(f"{path} has no folder {name}; it is not a DreamBench++ output")
    found = Collected(rules)
    notes: list[str] = []
    names = {entry.name for part in ("tgt_image", "text") for entry in (path / part).iterdir()}
    for collection in sorted(name for name in names if not name.startswith(".")):
        _read_collection(path, collection, found, notes)
    negative = path / "negative_prompt.txt"
    parameters = {"negative_prompt": read_utf8(negative).strip()} if negative.is_file() else {}
    return found.reading(parameters=parameters, notes=tuple(notes))


def _read_collection(path: Path, collection: str, found: Collected, notes: list[str]) -> None:
    parsed = parse_collection(collection)
    sources = _numbered(path / "src_image" / collection)
    targets = _numbered(path / "tgt_image" / collection)
    texts = _numbered(path / "text" / collection, (".txt",))
    hashes = {sha256_of(file) for file in sources.values()}
    if len(hashes) > 1:
        notes.append(f"{collection}: {len(hashes)} different source images, expected one")
    for row, key in enumerate(sorted(targets.keys() | texts.keys())):
        where = f"{collection}/{key[0]}_{key[1]}"
        found.rows += 1
        missing = [
            name
            for name, files in (("src_image", sources), ("tgt_image", targets), ("text", texts))
            if key not in files
        ]
        for name in missing:
            found.note("missing", where, name)
        if "src_image" in missing or "text" in missing:
            continue
        category, _, subject = parsed or (None, "", collection)
        lines = read_utf8(texts[key]).splitlines()
        level = difficulty(key[0])
        found.units.append(
            Unit(
                image=targets.get(key),
                references=(sources[key],),
                prompt=lines[0].strip() if lines else "",
                kind="subject",
                sample=key[1],
                category=category,
                subject=subject,
                class_word=subject,
                difficulty=level,
                tags={
                    "category": (category,) if category else (),
                    "difficulty": (level,) if level else (),
                },
                alias=f"{collection}-{key[0]}",
                file=collection,
                row=row,
            )
        )


def _numbered(
    folder: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES
) -> dict[tuple[int, int], Path]:
    files: dict[tuple[int, int], Path] = {}
    if not folder.is_dir():
        return files
    for path in sorted(folder.iterdir()):
        match = _NAME.fullmatch(path.stem)
        if not match or path.suffix.lower() not in suffixes or not path.is_file():
            continue
        key = (int(match[1]), int(match[2]))
        if key in files:
            raise ManifestError(f"{path} and {files[key].name} have one number")
        files[key] = path
    return files


def write(units: Sequence[Unit], target: Path) -> Path:
    """Writes units of one method in this layout.

    The prompt index is the last number of the alias, as the builder and the reader set it.

    Raises:
        ManifestError: If a unit has no image, no single reference or no such alias.
    """
    for unit in units:
        match = re.fullmatch(r"(.+)-(\d+)", unit.alias)
        if unit.image is None or len(unit.references) != 1 or not match:
            raise ManifestError(
                f"{unit.alias!r} needs an image, one reference and an alias like collection-0"
            )
        collection = match[1]
        if parse_collection(collection) is None:
            collection = collection_id("object", "0", collection)
        stem = f"{match[2]}_{unit.sample or 0}"
        copied(unit.references[0], target, f"src_image/{collection}", stem)
        copied(unit.image, target, f"tgt_image/{collection}", stem)
        text = target / "text" / collection / f"{stem}.txt"
        write_whole(text, [(unit.prompt + "\n").encode()])
    return target
