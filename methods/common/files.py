"""Files written whole and named by their contents."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4


def write_with(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a temporary file, then gives it its name.

    A reader, or a program that goes on after `kill -9`, sees the old file, or none, or the whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
