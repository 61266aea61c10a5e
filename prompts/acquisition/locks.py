"""Lock files: what a source consists of, as facts (path, bytes, hashes), and the comparison."""

import csv
import hashlib
import io
import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

State = Literal["absent", "partial", "corrupt", "complete"]
EXIT_CODES: dict[State, int] = {"complete": 0, "partial": 3, "corrupt": 4, "absent": 5}


@dataclass(frozen=True, kw_only=True, slots=True)
class LockEntry:
    """One file of a source. A file without sha256 is verified through its git blob id."""

    path: str
    size: int | None = None
    sha256: str | None = None
    git_blob_sha1: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What a check found. `deep` says whether contents were hashed or only sizes compared."""

    state: State
    expected: int
    present: int
    missing: tuple[str, ...] = ()
    corrupt: tuple[str, ...] = ()
    deep: bool = False

    def summary(self) -> str:
        """One line for people, with the first few names of what is wrong."""
        parts = [f"{self.state}: {self.present} of {self.expected} files"]
        for word, names in (("missing", self.missing), ("corrupt", self.corrupt)):
            if names:
                more = f" and {len(names) - 3} more" if len(names) > 3 else ""
                parts.append(f"{len(names)} {word} ({', '.join(names[:3])}{more})")
        return "; ".join(parts)


def read_lock(name: str) -> list[LockEntry]:
    """The lock file `name` that ships with the package.

    Raises:
        LookupError: If there is none of this name.
    """
    path = files("idbench.prompts") / "locks" / name
    if not path.is_file():
        raise LookupError(f"no lock file {name!r} in the package")
    rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))
    return [
        LockEntry(
            path=row["path"],
            size=int(row["bytes"]) if row["bytes"] else None,
            sha256=row["sha256"] or None,
            git_blob_sha1=row["git_blob_sha1"] or None,
        )
        for row in rows
    ]


def find_file(root: Path, path: str) -> Path | None:
    """The file at `path` below `root`, whatever Unicode normal form the file system kept."""
    for form in (path, unicodedata.normalize("NFC", path), unicodedata.normalize("NFD", path)):
        if (root / form).is_file():
            return root / form
    return None


def verify(root: Path, entries: Iterable[LockEntry], *, deep: bool) -> Verification:
    """Compares a folder with a lock: presence and size, with `deep` also content."""
    entries = list(entries)
    missing, corrupt = [], []
    for entry in entries:
        path = find_file(root, entry.path)
        if path is None:
            missing.append(entry.path)
        elif not _matches(path, entry, deep):
            corrupt.append(entry.path)
    present = len(entries) - len(missing)
    state: State = "complete"
    if not present:
        state = "absent"
    elif corrupt:
        state = "corrupt"
    elif missing:
        state = "partial"
    return Verification(
        state=state,
        expected=len(entries),
        present=present,
        missing=tuple(missing),
        corrupt=tuple(corrupt),
        deep=deep,
    )


def _matches(path: Path, entry: LockEntry, deep: bool) -> bool:
    size = path.stat().st_size
    if entry.size is not None and size != entry.size:
        return False
    if not deep:
        return True
    sha256 = hashlib.sha256()
    blob = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            sha256.update(chunk)
            blob.update(chunk)
    if entry.sha256 is not None:
        return sha256.hexdigest() == entry.sha256
    return entry.git_blob_sha1 is None or blob.hexdigest() == entry.git_blob_sha1


def listing(root: Path) -> list[LockEntry]:
    """A lock of what is in a folder now: sizes only, links not followed, hidden files left out."""
    found = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(entry for entry in subfolders if not entry.startswith("."))
        for name in sorted(names):
            path = Path(folder) / name
            if not name.startswith(".") and path.is_file() and not path.is_symlink():
                relative = path.relative_to(root).as_posix()
                found.append(LockEntry(path=relative, size=path.stat().st_size))
    return found
