"""Where the files of a method lie: given one by one, or under a common folder."""

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import platformdirs

from idbench.methods.common.files import sha256_of_file, write_with

# what a folder in diffusers' layout is identified by
_IDENTIFYING = {".safetensors", ".bin", ".json", ".model", ".txt"}


def locate(name: str, given: Path | None, weights: Path | None, relative: str) -> Path:
    """The file or folder of a parameter: `given`, else `relative` under `weights`.

    Raises:
        FileNotFoundError: If neither is given, or it does not exist; the message says which
            parameter to set.
    """
    if given is None and weights is None:
        raise FileNotFoundError(
            f"{name} is not given; set {name}=PATH, or weights=FOLDER that holds {relative}"
        )
    path = given if given is not None else Path(weights or "") / relative
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}; set {name}=PATH to where it is")
    return path


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and digests of a model folder's files.

    Digests are remembered by path, size and time of change, in memory and in the user's cache
    folder: the files of a large model take a minute to read.
    """
    if path.is_file():
        status = path.stat()
        return _file_digest(path.resolve(), status.st_size, status.st_mtime_ns)
    files = sorted(file for file in path.rglob("*") if file.suffix in _IDENTIFYING)
    return digest_of_files(path, files)


def digest_of_files(folder: Path, files: Sequence[Path]) -> str:
    """SHA-256 of the names, relative to `folder`, and digests of some files in it."""
    lines = [f"{file.relative_to(folder).as_posix()} {digest(file)}" for file in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@lru_cache(maxsize=4096)
def _file_digest(path: Path, size: int, mtime_ns: int) -> str:
    if size < 1 << 24:
        return sha256_of_file(path)
    memory = platformdirs.user_cache_path("idbench") / "digests.json"
    key = f"{path} {size} {mtime_ns}"
    known = _read(memory)
    if key not in known:
        known = {**_read(memory), key: sha256_of_file(path)}
        write_with(memory, lambda file: file.write_text(json.dumps(known, indent=1)))
    return known[key]


def _read(memory: Path) -> dict[str, str]:
    try:
        known: dict[str, str] = json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}
    return known
