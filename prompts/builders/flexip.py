"""flexip187 and its relatives (arXiv 2504.07405): two sets of subjects x 9 prompts x 10.

The paper counts 187 subjects, but the two sets have 150 + 40, and which three are missing is not
published. Dropping `downwearing` is the only removal of one category that gives 187; it stays an
inference, and `flexip190` keeps all.
"""

from collections.abc import Iterator
from pathlib import Path

from idbench.prompts.acquisition.catalogue import SOURCES
from idbench.prompts.acquisition.layouts import DREAMBENCH_SUBJECTS
from idbench.prompts.builders.collecting import BuildOptions, Collector, finished_name
from idbench.prompts.builders.dreambench_plus import read_subjects, subject_cases
from idbench.prompts.builders.msbench import MSBenchSubject, references, subjects
from idbench.prompts.cases import Case, Reference
from idbench.prompts.freezing import suite_of
from idbench.prompts.references import identified
from idbench.prompts.suite_info import SuiteInfo
from idbench.prompts.suites import Suite, SuiteSource
from idbench.prompts.tables import table

# Which categories of MS-Bench are left out; None leaves out all.
_WITHOUT: dict[str, tuple[str, ...] | None] = {
    "flexip187": ("downwearing",),
    "flexip186": ("scene",),
    "flexip150": None,
    "flexip190": (),
}


def chosen_subjects(suite: str) -> list[MSBenchSubject]:
    """The MS-Bench subjects of a suite."""
    without = _WITHOUT[suite]
    if without is None:
        return []
    return [entry for entry in subjects() if entry.category not in without]


def build(info: SuiteInfo, data_root: Path, options: BuildOptions) -> Suite:
    """Builds one of the four suites.

    Raises:
        PartialSourceError: If subjects are missing and that was not allowed.
    """
    files = Collector("dreambench_plus", data_root)
    pictures = read_subjects(files)
    missing = list(files.missing)
    expected = DREAMBENCH_SUBJECTS
    chosen = chosen_subjects(info.name)
    found: dict[str, Reference] = {}
    if chosen:
        other = Collector("msbench", data_root)
        found = references(other)
        missing += [entry.file for entry in chosen if entry.name not in found]
        expected += len(chosen)
    name = finished_name(info, options, missing, expected=expected)

    def cases() -> Iterator[Case]:
        for picture in pictures:
            yield from subject_cases(name, picture)
        for entry in chosen:
            if entry.name in found:
                yield from _msbench_cases(name, entry, found[entry.name])

    sources = ("dreambench_plus", "msbench") if chosen else ("dreambench_plus",)
    return suite_of(
        cases(),
        name=name,
        kind="subject",
        samples_per_case=info.samples,
        sources=tuple(SuiteSource(name=s, revision=SOURCES[s].revision) for s in sources),
        expected={"references": info.references, "prompts": info.prompts},
        metrics=("clip_t", "clip_i", "dino_i", "clip_iqa", "aesthetic"),
        variants=options.recorded(info),
        notes=("Not comparable to the printed Table 1 of FlexIP except in trend.",),
    )


def _msbench_cases(suite: str, entry: MSBenchSubject, reference: Reference) -> Iterator[Case]:
    for row in table("flexip_msbench_prompts"):
        if entry.category not in row["group"].split("|") and not (
            row["group"] == "wearing" and entry.category.endswith("wearing")
        ):
            continue
        yield identified(
            suite,
            1,
            alias=f"msbench_{entry.name}-{row['prompt_index']}",
            kind="subject",
            references=(reference,),
            prompt=row["prompt_template"].format(class_word=entry.class_word),
            category="wearing" if entry.category.endswith("wearing") else entry.category,
            subject=entry.class_word,
            difficulty=row["difficulty"],
            segment_query=entry.class_word,
            tags={"category": (entry.category,), "difficulty": (row["difficulty"],)},
        )
