"""The table of suites: what each one is, how large, from which sources; built or not."""

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


def _table(*rows: SuiteInfo) -> dict[str, SuiteInfo]:
    return {row.name: row for row in rows}


_IBENCH_VARIANTS: dict[str, tuple[str, ...]] = {
    "class_word": ("template", "neutral"),
    "duplicates": ("keep", "drop"),
}
_DREAMBENCH = "DreamBench++: apache-2.0 tag, images from several origins, fetch only"
_MSBENCH = "MS-Bench: MIT repository"
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
        sources=("embedded", "scikit-image", "insightface"),
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
    SuiteInfo(
        name="ibench-chineseid-long",
        kind="single_id",
        summary="Chinese portraits x 41 long prompts",
        used_by="EditIDv2 T1, FlexID T1",
        references=100,
        prompts=41,
        cases=4100,
        distinct_cases=4059,
        sources=("ibench",),
        licence="IBench, no licence file; images from search engines",
        fetch="git",
        builder="idbench.prompts.builders.ibench:build",
        variants=_IBENCH_VARIANTS | {"prompt_repair": ("off", "on")},
    ),
    SuiteInfo(
        name="ibench-chineseid-action",
        kind="single_id",
        summary="Chinese portraits x 60 long prompts of actions",
        used_by="alternative reading of the same tables",
        references=100,
        prompts=60,
        cases=6000,
        distinct_cases=5445,
        sources=("ibench",),
        licence="IBench, no licence file; images from search engines",
        fetch="git",
        builder="idbench.prompts.builders.ibench:build",
        variants=_IBENCH_VARIANTS,
    ),
    SuiteInfo(
        name="ibench-unsplash50-short",
        kind="single_id",
        summary="portraits x 21 short prompts",
        used_by="IBench run lists",
        references=49,
        prompts=21,
        cases=1029,
        sources=("ibench",),
        licence="IBench, no licence file; Unsplash photographs",
        fetch="git",
        builder="idbench.prompts.builders.ibench:build",
        variants=_IBENCH_VARIANTS | {"prompt_repair": ("off", "on")},
    ),
    SuiteInfo(
        name="ibench-generateid-typemovie",
        kind="single_id",
        summary="generated portraits x 80 film-like prompts",
        used_by="IBench run lists",
        references=99,
        prompts=80,
        cases=7920,
        sources=("ibench",),
        licence="IBench, no licence file; generated portraits",
        fetch="git",
        builder="idbench.prompts.builders.ibench:build",
        variants=_IBENCH_VARIANTS,
    ),
    SuiteInfo(
        name="ibench-mystyle-short",
        kind="single_id",
        summary="tight face crops x 45 short prompts",
        used_by="none of the five papers",
        references=42,
        prompts=45,
        cases=1890,
        sources=("ibench",),
        licence="IBench, no licence file; MyStyle photographs",
        fetch="git",
        builder="idbench.prompts.builders.ibench:build",
        variants=_IBENCH_VARIANTS,
    ),
    SuiteInfo(
        name="fastcomposer-single",
        kind="single_id",
        summary="15 people x 40 prompts x 4 samples",
        used_by="protocol base of DynamicID",
        references=15,
        prompts=40,
        samples=4,
        cases=600,
        sources=("celeba",),
        licence="CelebA: non-commercial research, no redistribution",
        fetch="import or hub",
        builder="idbench.prompts.builders.fastcomposer:build",
        variants={"crop": ("auto", "wild", "align")},
    ),
    SuiteInfo(
        name="dynamicid-single",
        kind="single_id",
        summary="500 people x 20 prompts, expressions and orientations in turn",
        used_by="DynamicID T1, T3, T4",
        references=500,
        prompts=20,
        cases=10000,
        sources=("celeba",),
        licence="CelebA: non-commercial research, no redistribution",
        fetch="import or hub",
        builder="idbench.prompts.builders.dynamicid:build_single",
        variants={"crop": ("auto", "wild", "align")},
    ),
    SuiteInfo(
        name="dynamicid-single-full",
        kind="single_id",
        summary="the full cross with 7 expressions and 4 orientations",
        used_by="DynamicID T1, T3, T4 (other reading)",
        references=500,
        prompts=20,
        cases=280000,
        sources=("celeba",),
        licence="CelebA: non-commercial research, no redistribution",
        fetch="import or hub",
        builder="idbench.prompts.builders.dynamicid:build_single",
        variants={"crop": ("auto", "wild", "align")},
    ),
    SuiteInfo(
        name="dynamicid-multi",
        kind="multi_id",
        summary="250 pairs x 20 prompts, an expression and an orientation each",
        used_by="DynamicID T2",
        references=500,
        prompts=20,
        cases=5000,
        sources=("celeba",),
        licence="CelebA: non-commercial research, no redistribution",
        fetch="import or hub",
        builder="idbench.prompts.builders.dynamicid:build_multi",
        variants={"crop": ("auto", "wild", "align")},
    ),
    SuiteInfo(
        name="dynamicid-multi-3",
        kind="multi_id",
        summary="166 triples x 20 prompts",
        used_by="a figure of DynamicID",
        references=498,
        prompts=20,
        cases=3320,
        sources=("celeba",),
        licence="CelebA: non-commercial research, no redistribution",
        fetch="import or hub",
        builder="idbench.prompts.builders.dynamicid:build_multi",
        variants={"crop": ("auto", "wild", "align")},
    ),
    SuiteInfo(
        name="dreambench-plus",
        kind="subject",
        summary="150 subjects x 9 prompts of three difficulties",
        used_by="FlexIP T1-T2 (part)",
        references=150,
        prompts=9,
        cases=1350,
        sources=("dreambench_plus",),
        licence=_DREAMBENCH,
        fetch="hub",
        builder="idbench.prompts.builders.dreambench_plus:build",
    ),
    SuiteInfo(
        name="msbench",
        kind="multi_subject",
        summary="1,148 combinations of 40 subjects in preset boxes",
        used_by="FlexIP (part)",
        references=40,
        prompts=0,
        cases=4488,
        sources=("msbench",),
        licence=_MSBENCH,
        fetch="git",
        builder="idbench.prompts.builders.msbench:build",
    ),
    SuiteInfo(
        name="flexip187",
        kind="subject",
        summary="187 subjects x 9 prompts x 10 samples: two sets, no downwearing",
        used_by="FlexIP T1, T2",
        references=187,
        prompts=9,
        samples=10,
        cases=1683,
        sources=("dreambench_plus", "msbench"),
        licence=f"{_DREAMBENCH}; {_MSBENCH}",
        fetch="hub and git",
        builder="idbench.prompts.builders.flexip:build",
    ),
    SuiteInfo(
        name="flexip186",
        kind="subject",
        summary="186 subjects x 9 prompts x 10 samples: two sets, no scenes",
        used_by="FlexIP (other reading)",
        references=186,
        prompts=9,
        samples=10,
        cases=1674,
        sources=("dreambench_plus", "msbench"),
        licence=f"{_DREAMBENCH}; {_MSBENCH}",
        fetch="hub and git",
        builder="idbench.prompts.builders.flexip:build",
    ),
    SuiteInfo(
        name="flexip190",
        kind="subject",
        summary="190 subjects x 9 prompts x 10 samples: two sets, complete",
        used_by="FlexIP (other reading)",
        references=190,
        prompts=9,
        samples=10,
        cases=1710,
        sources=("dreambench_plus", "msbench"),
        licence=f"{_DREAMBENCH}; {_MSBENCH}",
        fetch="hub and git",
        builder="idbench.prompts.builders.flexip:build",
    ),
    SuiteInfo(
        name="flexip150",
        kind="subject",
        summary="150 subjects x 9 prompts x 10 samples: DreamBench++ alone",
        used_by="FlexIP (part)",
        references=150,
        prompts=9,
        samples=10,
        cases=1350,
        sources=("dreambench_plus",),
        licence=_DREAMBENCH,
        fetch="hub",
        builder="idbench.prompts.builders.flexip:build",
    ),
    SuiteInfo(
        name="editedid-restore",
        kind="edit_restoration",
        summary="1,200 edited photographs whose identity is to be restored",
        used_by="EditedID T3, T6, T7, T12, T13",
        references=0,
        prompts=0,
        cases=1200,
        sources=(),
        licence="not published",
        fetch="editedid",
    ),
    SuiteInfo(
        name="editedid-proxy",
        kind="edit_restoration",
        summary="1,200 photographs of your own copies, edited by an editor of yours",
        used_by="stands in for editedid-restore",
        references=1200,
        prompts=0,
        cases=1200,
        sources=("crowdhuman", "deepfashion_mm", "extra_photos"),
        licence="non-commercial; your own copies",
        fetch="import",
        builder="idbench.prompts.builders.editedid_proxy:build",
    ),
    SuiteInfo(
        name="multiid-bench",
        kind="multi_id",
        summary="one to four people with a ground-truth photograph",
        used_by="copy-paste control",
        references=0,
        prompts=433,
        cases=433,
        sources=("multiid_bench",),
        licence="MultiID-2M: non-commercial, no redistribution",
        fetch="hub",
        builder="idbench.prompts.builders.multiid_bench:build",
    ),
)
