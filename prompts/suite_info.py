"""What is known of a suite without its data."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from idbench.prompts.cases import Kind


@dataclass(frozen=True, kw_only=True, slots=True)
class SuiteInfo:
    """What `idbench list suites` shows of a suite without its data.

    `cases` counts each case with its multiplicity, as the papers do; `distinct` counts it once.
    Both are 0 where the set is not published. `builder` is "module:function", imported on use;
    empty for bundled suites, which are frozen inside the package, and for import-only ones.
    """

    name: str
    kind: Kind
    summary: str
    cases: int
    used_by: str = ""
    references: int = 0
    prompts: int = 0
    samples: int = 1
    distinct_cases: int | None = None
    version: int = 1
    sources: tuple[str, ...]
    licence: str
    fetch: str
    builder: str = ""
    bundled: bool = False
    variants: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # the first is default

    @property
    def distinct(self) -> int:
        """Cases counted once."""
        return self.cases if self.distinct_cases is None else self.distinct_cases

    @property
    def units(self) -> int:
        """Images of one arm: cases x samples."""
        return self.cases * self.samples

    def how_to_get(self) -> str:
        """What to type where the suite is absent."""
        if self.bundled:
            return "it is part of the package; reinstall idbench"
        if not self.builder:
            return f"it is not published; score existing images with: idbench import {self.fetch}"
        verb = "fetch" if self.fetch.startswith(("git", "hub")) else "import"
        paths = "" if verb == "fetch" else " PATH"
        steps = [f"idbench data {verb} {source}{paths}" for source in self.sources]
        return f"get it with: {'; '.join(steps)}; idbench data build {self.name}"
