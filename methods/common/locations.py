"""Where the files of a method lie: given one by one, or under a common folder."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import platformdirs

from idbench.methods.common.files import sha256_of_file, write_with
from idbench.methods.common.weight_sources import MissingWeightsError, Source, how_to_get

# what a folder in diffusers' layout is identified by
_IDENTIFYING = {".safetensors", ".bin", ".json", ".model", ".txt"}


def locate(
    key: str, given: Path | None, weights: Path | None, source: Source, parameters: Iterable[str]
) -> Path:
    """The file or folder of a parameter: `given`, else its place in the weights folder.

    Args:
        key: Name of the parameter.
        given: Its value.
        weights: The folder; the application data folder of this user if None.
        source: Where the weights come from.
        parameters: Those that can name a place, for the message.

    Raises:
        MissingWeightsError: If it is not there; the message says how to get it.
    """
    folder = weights or platformdirs.user_data_path("idbench") / "weights"
    path = given or folder / source.path
    if not path.exists():
        raise MissingWeightsError(how_to_get(key, path, source, parameters))
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
