"""Files written whole, and hashes of files."""

import hashlib
import os
import secrets
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path


def write_whole(path: Path, chunks: Iterable[bytes]) -> str:
    """Writes a file under a temporary name and renames it; returns the sha256 of the content.

    A reader never sees half a file, and an interrupted write leaves the old one.

    Raises:
        OSError: If the folder cannot be written; the message names the path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    temporary = path.with_name(f".{path.name[:60]}.{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb") as stream:
            for chunk in chunks:
                stream.write(chunk)
                digest.update(chunk)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    """The sha256 of a file; computed once per process while size and time stay the same."""
    stat = path.stat()
    return _sha256_of(str(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=65536)
def _sha256_of(path: str, size: int, mtime_ns: int) -> str:
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
