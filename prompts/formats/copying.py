"""Putting pictures into an exported folder under names that are safe everywhere."""

import shutil
from pathlib import Path

from idbench.prompts.files import sha256_of


def copied(source: Path, target: Path, folder: str, stem: str | None = None) -> str:
    """Copies a picture to `<target>/<folder>/<stem><suffix>` and returns the relative path.

    Without a stem the name is the hash of the content, so one picture is copied once.
    """
    name = (stem or f"r{sha256_of(source)[:12]}") + source.suffix.lower()
    destination = target / folder / name
    if not destination.is_file() or sha256_of(destination) != sha256_of(source):
        destination.parent.mkdir(parents=True, exist_ok=True)
        part = destination.with_name(f".{name}.part")
        shutil.copyfile(source, part)
        part.replace(destination)
    return f"{folder}/{name}"
