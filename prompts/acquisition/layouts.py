"""What a complete copy of each source looks like, and where its root is in a user's own folder."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from idbench.prompts.acquisition.catalogue import SOURCES
from idbench.prompts.acquisition.locks import (
    LockEntry,
    State,
    Verification,
    find_file,
    read_lock,
    verify,
)
from idbench.prompts.cases import prompt_id
from idbench.prompts.strict import read_utf8

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm")
DREAMBENCH_SUBJECTS = 150
MULTIID_ROWS = 433

# What must be below the root of a source for it to be one.
_MARKS: dict[str, tuple[str, ...]] = {
    "ibench": ("data/images",),
    "vbench-prompts": ("prompts/augmented_prompts/gpt_enhanced_prompts",),
    "dreambench_plus": ("images", "captions"),
    "msbench": ("msbench",),
    "crowdhuman": (),
    "deepfashion_mm": ("images",),
}
_DEPTH = 3


def locate(source: str, path: Path) -> Path | None:
    """The folder in or above `path` that has the layout of `source`, or None."""
    if source in ("multiid_bench", "extra_photos"):
        return path if path.is_dir() else None
    candidates = [*path.parents[:2], *_folders(path, _DEPTH)]
    candidates.sort(key=lambda folder: (folder != path, len(folder.parts)))
    return next((folder for folder in candidates if _has_marks(source, folder)), None)


def _folders(path: Path, depth: int) -> Iterator[Path]:
    if not path.is_dir():
        return
    yield path
    if depth:
        for child in sorted(path.iterdir()):
            if child.is_dir() and not child.name.startswith(".") and not child.is_symlink():
                yield from _folders(child, depth - 1)


def _has_marks(source: str, folder: Path) -> bool:
    if source == "celeba":
        return celeba_file(folder, "identity_CelebA.txt") is not None
    if source == "crowdhuman":
        return any(folder.glob("annotation_*.odgt"))
    return all((folder / mark).is_dir() for mark in _MARKS[source])


def celeba_file(root: Path, name: str) -> Path | None:
    """A text file of CelebA in the official (Anno/, Eval/) or the torchvision (flat) layout."""
    for folder in ("", "Anno", "Eval"):
        if (root / folder / name).is_file():
            return root / folder / name
    return None


def check(source: str, root: Path, *, deep: bool) -> Verification:
    """Whether `root` holds a complete copy of `source`; `deep` hashes what has a hash.

    Raises:
        LookupError: If the source has no files of its own to check.
    """
    if source not in _CHECKS:
        raise LookupError(f"source {source!r} cannot be verified; try: {', '.join(_CHECKS)}")
    if not root.is_dir():
        return Verification(state="absent", expected=0, present=0, deep=deep)
    return _CHECKS[source](root, deep)


def _locked(source: str) -> Callable[[Path, bool], Verification]:
    def check_lock(root: Path, deep: bool) -> Verification:
        return verify(root, read_lock(SOURCES[source].lock), deep=deep)

    return check_lock


def _listed(paths: Iterable[str], root: Path, deep: bool) -> Verification:
    return verify(root, (LockEntry(path=path) for path in paths), deep=deep)


def _counted(found: int, expected: int, missing: Iterable[str], deep: bool) -> Verification:
    state: State = "complete" if found == expected else "partial" if found else "absent"
    return Verification(
        state=state, expected=expected, present=found, missing=tuple(missing), deep=deep
    )


def msbench_table() -> dict[str, Any]:
    """The lists of MS-Bench that ship with the package."""
    text = (files("idbench.prompts") / "data" / "msbench.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table


def _msbench(root: Path, deep: bool) -> Verification:
    subjects = msbench_table()["subjects"]
    return _listed((subject["file"] for subject in subjects), root, deep)


def _vbench(root: Path, deep: bool) -> Verification:
    folder = root / "prompts" / "augmented_prompts" / "gpt_enhanced_prompts"
    text = (files("idbench.prompts") / "data" / "vbench_provenance.csv").read_text("utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    names = sorted({row["vbench_file"] for row in rows})
    found = _listed(names, folder, deep)
    if found.state != "complete":
        return found
    lines = {name: read_utf8(folder / name).splitlines() for name in names}
    wrong = [
        f"{row['vbench_file']}, line {int(row['vbench_line_index']) + 1}"
        for row in rows
        if row["match"] == "exact"
        and _line_id(lines[row["vbench_file"]], int(row["vbench_line_index"]))
        != "p" + row["prompt_sha256_12"]
    ]
    return replace(found, state="corrupt", corrupt=tuple(wrong)) if wrong else found


def _line_id(lines: list[str], index: int) -> str:
    return prompt_id(lines[index].strip()) if index < len(lines) else ""


def dreambench_pairs(root: Path) -> tuple[dict[str, tuple[Path, Path]], list[str]]:
    """Images and captions of DreamBench++ that belong together, and what has no partner.

    They pair by relative path without suffix; keys are `<...>/<category>/<NN>`.
    """
    images = {
        path.relative_to(root / "images").with_suffix("").as_posix(): path
        for path in sorted((root / "images").rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    }
    captions = {
        path.relative_to(root / "captions").with_suffix("").as_posix(): path
        for path in sorted((root / "captions").rglob("*.txt"))
    }
    alone = sorted(f"images/{key}" for key in images.keys() - captions.keys())
    alone += sorted(f"captions/{key}" for key in captions.keys() - images.keys())
    pairs = {key: (images[key], captions[key]) for key in sorted(images.keys() & captions.keys())}
    return pairs, alone


def _dreambench_plus(root: Path, deep: bool) -> Verification:
    pairs, alone = dreambench_pairs(root)
    return _counted(len(pairs), DREAMBENCH_SUBJECTS, alone, deep)


def _celeba(root: Path, deep: bool) -> Verification:
    names = ("identity_CelebA.txt", "list_attr_celeba.txt")
    missing = [name for name in names if celeba_file(root, name) is None]
    folders = ("Img/img_celeba", "Img/img_align_celeba", "img_celeba", "img_align_celeba")
    if not any((root / folder).is_dir() for folder in folders):
        missing.append("Img/img_align_celeba")
    return _counted(3 - len(missing), 3, missing, deep)


def multiid_rows(root: Path) -> list[Path]:
    """The folders of MultiID-Bench rows, sorted by name."""
    return sorted(path.parent for path in root.glob("*/meta.json"))


def image_named(folder: Path, stem: str) -> Path | None:
    """The image `<stem>.<suffix>` in a folder, or None."""
    for suffix in IMAGE_SUFFIXES:
        if (folder / (stem + suffix)).is_file():
            return folder / (stem + suffix)
    return None


def _multiid(root: Path, deep: bool) -> Verification:
    rows = multiid_rows(root)
    bare = [row.name for row in rows if not (image_named(row, "ori") and image_named(row, "ref_1"))]
    return _counted(len(rows) - len(bare), MULTIID_ROWS, bare, deep)


def _crowdhuman(root: Path, deep: bool) -> Verification:
    lists = list(root.glob("annotation_*.odgt"))
    images = find_file(root, "Images") or any(
        (root / name).is_dir() for name in ("Images", "images")
    )
    missing = [] if lists else ["annotation_train.odgt"]
    if not images:
        missing.append("Images")
    return _counted(2 - len(missing), 2, missing, deep)


def _some_images(root: Path, deep: bool) -> Verification:
    count = sum(1 for path in root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return _counted(min(count, 1), 1, () if count else ("*.jpg",), deep)


_CHECKS: dict[str, Callable[[Path, bool], Verification]] = {
    "ibench": _locked("ibench"),
    "vbench-prompts": _vbench,
    "dreambench_plus": _dreambench_plus,
    "msbench": _msbench,
    "celeba": _celeba,
    "multiid_bench": _multiid,
    "crowdhuman": _crowdhuman,
    "deepfashion_mm": _some_images,
    "extra_photos": _some_images,
}
