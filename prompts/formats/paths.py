"""Finding the files that a list names: moved prefixes, backslashes, normal forms, addresses."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from idbench.prompts.acquisition.locks import find_file

Fetch = Callable[[str, Path], object]  # address, target


class RefusedPathError(ValueError):
    """A path that is not followed: an address, or one that leads out of the folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PathRules:
    """How to turn the texts of a list into files.

    `folder` is where relative paths start; `path_map` are (old, new) prefixes, the first that fits
    counts; `fetch` downloads addresses into `downloads`, and without it they are refused.
    """

    folder: Path
    path_map: Sequence[tuple[str, str]] = ()
    fetch: Fetch | None = None
    downloads: Path | None = None

    def find(self, text: str) -> Path | None:
        """The file, or None where there is none.

        Relative paths have to stay in the folder, also through links; absolute paths, and what
        `path_map` says, are the user's word.

        Raises:
            RefusedPathError: For addresses without leave to download and paths out of the folder.
        """
        if not text or "\0" in text:
            raise RefusedPathError("an empty path")
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
            return self._download(text)
        posix = text.replace("\\", "/")
        mapped = self._mapped(posix)
        if mapped is not None:
            return _existing(Path(mapped))
        if posix.startswith("/"):
            return _existing(Path(posix))
        if ".." in PurePosixPath(posix).parts or re.match(r"[A-Za-z]:", posix):
            raise RefusedPathError(f"{text!r} leads out of {self.folder}; use --path-map OLD=NEW")
        found = find_file(self.folder, posix)
        if found and not found.resolve().is_relative_to(self.folder.resolve()):
            raise RefusedPathError(f"{text!r} is a link that leads out of {self.folder}")
        return found

    def _mapped(self, text: str) -> str | None:
        for old, new in self.path_map:
            prefix = old.replace("\\", "/")
            if text.startswith(prefix):
                rest = text[len(prefix) :]
                return (
                    new.rstrip("/") + "/" + rest.lstrip("/") if prefix.endswith("/") else new + rest
                )
        return None

    def _download(self, address: str) -> Path | None:
        if self.fetch is None or self.downloads is None:
            raise RefusedPathError(f"{address!r} is an address; use --allow-download to fetch it")
        suffix = PurePosixPath(address.split("?")[0]).suffix[:8]
        name = hashlib.sha256(address.encode()).hexdigest()[:24] + suffix
        target = self.downloads / name
        if not target.is_file():
            self.fetch(address, target)
        return target


def _existing(path: Path) -> Path | None:
    """An absolute path in any normal form."""
    try:
        return find_file(Path("/"), path.absolute().relative_to("/").as_posix())
    except OSError:
        return None  # a name that the file system cannot hold


def parse_path_map(words: Sequence[str]) -> list[tuple[str, str]]:
    """Reads `OLD=NEW` words of the command line.

    Raises:
        ValueError: If a word has no `=` or no OLD.
    """
    pairs = []
    for word in words:
        old, sign, new = word.partition("=")
        if not sign or not old:
            raise ValueError(f"--path-map must be OLD=NEW, got {word!r}")
        pairs.append((old, new))
    return pairs
