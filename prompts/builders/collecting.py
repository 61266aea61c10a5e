"""What every builder needs: options, hashed files of a source, the refusal of partial data."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from idbench.prompts.acquisition.locks import LockEntry, find_file
from idbench.prompts.files import sha256_of
from idbench.prompts.sources import DriftError, source_root
from idbench.prompts.strict import read_utf8
from idbench.prompts.suite_info import SuiteInfo

Progress = Callable[[int, int, str], None]  # done, total, path


class PartialSourceError(FileNotFoundError):
    """A source lacks files that the suite needs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildOptions:
    """How to build. `variants` are deviations from the default, checked against the suite's."""

    variants: Mapping[str, str] = field(default_factory=dict)
    allow_partial: bool = False
    progress: Progress | None = None

    def variant(self, info: SuiteInfo, name: str) -> str:
        """The chosen value of a variant of the suite.

        Raises:
            ValueError: If a variant or a value is not one of the suite's.
        """
        for key, value in self.variants.items():
            allowed = info.variants.get(key, ())
            if not allowed:
                known = ", ".join(info.variants) or "none"
                raise ValueError(f"suite {info.name} has no variant {key!r}; known: {known}")
            if value not in allowed:
                raise ValueError(f"variant {key} must be {' or '.join(allowed)}, got {value!r}")
        return self.variants.get(name, info.variants[name][0])

    def suite_name(self, info: SuiteInfo) -> str:
        """The name of the suite with its deviations, such as `dynamicid-single+crop-align`."""
        parts = [
            f"+{name}-{value}"
            for name, value in sorted(self.variants.items())
            if value != info.variants.get(name, (value,))[0]
        ]
        return info.name + "".join(parts)

    def recorded(self, info: SuiteInfo) -> dict[str, str]:
        """Every variant of the suite with its value, for the header."""
        return {name: self.variant(info, name) for name in sorted(info.variants)}


class Collector:
    """Files of one source: found whatever their normal form, hashed, compared with the lock."""

    def __init__(self, source: str, data_root: Path, lock: Sequence[LockEntry] = ()) -> None:
        """Finds the root of the source.

        Raises:
            FileNotFoundError: If the source is not here.
        """
        self.source = source
        self.root = source_root(source, data_root)
        self.missing: list[str] = []
        self._lock = {entry.path: entry for entry in lock}

    def sha256(self, path: str) -> str | None:
        """The sha256 of a file of the source; None, and a note, where it is missing.

        Raises:
            DriftError: If the lock knows another content.
        """
        found = find_file(self.root, path)
        if found is None:
            self.missing.append(path)
            return None
        actual = sha256_of(found)
        locked = self._lock.get(path) or self._lock.get(unicodedata.normalize("NFC", path))
        if locked and locked.sha256 and locked.sha256 != actual:
            raise DriftError(
                f"{found} has sha256 {actual}, but the lock has {locked.sha256}; look with: "
                f"idbench data verify {self.source} --deep"
            )
        return actual

    def text(self, path: str) -> str:
        """A text file of the source, in UTF-8.

        Raises:
            PartialSourceError: If it is missing; without it there is nothing to build.
            ManifestError: If it is not UTF-8.
        """
        found = find_file(self.root, path)
        if found is None:
            raise PartialSourceError(
                f"{self.root / path} is missing; look with: idbench data verify {self.source}"
            )
        return read_utf8(found)


def finished_name(
    info: SuiteInfo, options: BuildOptions, missing: Sequence[str], *, expected: int
) -> str:
    """The name that the suite may carry: its own, or with `+partial` where files are missing.

    Raises:
        PartialSourceError: If files are missing and that was not allowed.
    """
    name = options.suite_name(info)
    if not missing:
        return name
    shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    if not options.allow_partial:
        raise PartialSourceError(
            f"{len(missing)} of {expected} files of {info.name} are missing ({shown}); "
            f"{info.how_to_get()}; or build what is there, under the name {name}+partial, with: "
            f"idbench data build {info.name} --allow-partial"
        )
    return f"{name}+partial"
