"""The table of suites: what each one is, how large, from which sources; built or not."""

from dataclasses import dataclass

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
        fetched = "; ".join(f"idbench data fetch {source}" for source in self.sources)
        return f"get it with: {fetched}; idbench data build {self.name}"


def _table(*rows: SuiteInfo) -> dict[str, SuiteInfo]:
    return {row.name: row for row in rows}


_PUBLIC = "public domain and CC0 photographs read from scikit-image; the rest self-made, CC0"

SUITES: dict[str, SuiteInfo] = _table(
    SuiteInfo(
        name="demo",
        kind="single_id",
        summary="seven real people, three prompts each; needs no download",
        used_by="idbench demo",
        references=7,
        prompts=3,
        cases=21,
        sources=("embedded",),
        licence="cut at build time from pictures that scikit-image (public domain) and insightface "
        "(no stated licence) install; never redistributed",
        fetch="bundled",
        bundled=True,
    ),
    SuiteInfo(
        name="tiny-single",
        kind="single_id",
        summary="one real person, 12 long and 6 short prompts with expression and orientation",
        used_by="tests, default runs",
        references=1,
        prompts=18,
        cases=18,
        sources=("scikit-image",),
        licence=_PUBLIC,
        fetch="bundled",
        bundled=True,
    ),
    SuiteInfo(
        name="tiny-multi",
        kind="multi_id",
        summary="pairs of one real person and two drawn ones, with boxes",
        used_by="tests, default runs",
        references=3,
        prompts=2,
        cases=6,
        sources=("scikit-image", "embedded"),
        licence=_PUBLIC,
        fetch="bundled",
        bundled=True,
    ),
    SuiteInfo(
        name="tiny-subject",
        kind="subject",
        summary="a person, a cat, a cup and a rocket, nine prompts each",
        used_by="tests, default runs",
        references=4,
        prompts=9,
        cases=36,
        sources=("scikit-image",),
        licence=_PUBLIC,
        fetch="bundled",
        bundled=True,
    ),
    SuiteInfo(
        name="tiny-edit",
        kind="edit_restoration",
        summary="programmatic edits of one person with exact element masks",
        used_by="tests, default runs",
        references=1,
        prompts=2,
        cases=6,
        sources=("scikit-image", "embedded"),
        licence=_PUBLIC,
        fetch="bundled",
        bundled=True,
    ),
)
