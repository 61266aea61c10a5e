"""Datasets that come as Parquet rows, written out as the folders that their authors use."""

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from idbench.prompts.builders.celeba import chosen_identities

_SAFE_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}


def parquet_rows(files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Rows of Parquet files, in order, a batch at a time.

    Raises:
        RuntimeError: If pyarrow is not installed.
        ValueError: If a file is not Parquet.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise RuntimeError("Parquet needs pyarrow; pip install pyarrow") from None
    for path in files:
        try:
            opened = pyarrow.parquet.ParquetFile(path)
            for batch in opened.iter_batches(batch_size=64):
                yield from batch.to_pylist()
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"{path} cannot be read as Parquet: {error}") from error


def multiid_folders(files: Sequence[Path], target: Path) -> int:
    """Writes rows of MultiID-Bench as `<id>/{ori,ref_1..4}.<suffix>` and `meta.json`.

    Pixels are not touched: the encoded images are written as they are.

    Raises:
        ValueError: If a row has an unusable id, a missing column or an image that is none.
    """
    count = 0
    for row in parquet_rows(files):
        name = str(_column(row, "ID"))
        if not _SAFE_ID.fullmatch(name):
            raise ValueError(f"row {count}: id {name!r} cannot be a folder name")
        folder = target / name
        folder.mkdir(parents=True)
        _write_image(folder, "ori", _column(row, "GT"))
        for number, image in enumerate(_column(row, "input_images"), start=1):
            _write_image(folder, f"ref_{number}", image)
        meta = {
            key: row.get(key) for key in ("prompt", "task_type", "bboxes", "subset", "num_persons")
        }
        text = json.dumps(meta, ensure_ascii=False, indent=1) + "\n"
        (folder / "meta.json").write_text(text, encoding="utf-8")
        count += 1
    return count


def celeba_rows(files: Sequence[Path], target: Path) -> int:
    """Writes the files of CelebA that the suites use, with the two text files of all rows.

    The text files list every row, so that the choice of identities is the same as from the
    official folder; pixels are written for chosen identities only.

    Raises:
        ValueError: If a column is missing or an image is none.
    """
    names: list[str] = []
    identities: list[int] = []
    attributes: list[Mapping[str, bool]] = []
    for number, row in enumerate(parquet_rows([*files]), start=1):
        names.append(_celeba_name(row, number))
        identities.append(int(_column(row, "celeb_id")))
        attributes.append({key: bool(value) for key, value in row.items() if _is_attribute(key)})
    target.mkdir(parents=True)
    _write_celeba_lists(target, names, identities, attributes)
    wanted = chosen_identities(target)
    folder = target / "img_align_celeba"
    folder.mkdir()
    for number, row in enumerate(parquet_rows([*files])):
        if identities[number] in wanted:
            content = _column(row, "image")["bytes"]
            (folder / names[number]).write_bytes(content)
    return len(names)


def _is_attribute(key: str) -> bool:
    return key not in ("image", "celeb_id")


def _celeba_name(row: Mapping[str, Any], number: int) -> str:
    path = _column(row, "image").get("path") or ""
    name = Path(path).name
    return name if re.fullmatch(r"\d{6}\.jpg", name) else f"{number:06d}.jpg"


def _write_celeba_lists(
    target: Path,
    names: Sequence[str],
    identities: Sequence[int],
    attributes: Sequence[Mapping[str, bool]],
) -> None:
    pairs = zip(names, identities, strict=True)
    lines = "".join(f"{name} {identity}\n" for name, identity in pairs)
    (target / "identity_CelebA.txt").write_text(lines)
    columns = sorted(attributes[0]) if attributes else []
    rows = [f"{len(names)}\n", " ".join(columns) + "\n"]
    for name, values in zip(names, attributes, strict=True):
        rows.append(f"{name} " + " ".join("1" if values[c] else "-1" for c in columns) + "\n")
    (target / "list_attr_celeba.txt").write_text("".join(rows))


def _column(row: Mapping[str, Any], name: str) -> Any:
    if row.get(name) is None:
        raise ValueError(f"a row has no {name!r}; its columns are {', '.join(row)}")
    return row[name]


def _write_image(folder: Path, stem: str, image: Mapping[str, Any]) -> None:
    content = image.get("bytes") or b""
    try:
        with Image.open(io.BytesIO(content)) as opened:
            suffix = _SUFFIXES.get(opened.format or "", ".png")
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder.name}/{stem} is not an image: {error}") from error
    (folder / (stem + suffix)).write_bytes(content)
