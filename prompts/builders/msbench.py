"""msbench: 1,148 combinations of 40 subjects, 4,488 cases (MS-Diffusion/MS-Diffusion@74eb2d6)."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from pathlib import Path
from typing import Literal

from idbench.prompts.acquisition.catalogue import SOURCES
from idbench.prompts.acquisition.layouts import msbench_table
from idbench.prompts.builders.collecting import BuildOptions, Collector, finished_name
from idbench.prompts.cases import Box, Case, Person, Reference
from idbench.prompts.freezing import suite_of
from idbench.prompts.references import identified, reference_of
from idbench.prompts.suite_info import SuiteInfo
from idbench.prompts.suites import Suite, SuiteSource


@dataclass(frozen=True, kw_only=True, slots=True)
class MSBenchSubject:
    """One of the 40 subjects. `category` is living, object, scene or a kind of wearing."""

    name: str
    category: str
    class_word: str
    file: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CombinationType:
    """Categories that are combined, where each stands, and the prompts with {0}, {1}, {2}."""

    name: str
    categories: tuple[str, ...]
    boxes: tuple[Box, ...]
    prompts: tuple[str, ...]


def subjects() -> list[MSBenchSubject]:
    """The 40 subjects, in the order of the list."""
    return [MSBenchSubject(**entry) for entry in msbench_table()["subjects"]]


def combination_types() -> list[CombinationType]:
    """The 13 types of combination."""
    return [
        CombinationType(
            name=entry["name"],
            categories=tuple(entry["subjects"]),
            boxes=tuple((b[0], b[1], b[2], b[3]) for b in entry["boxes_xyxy_relative"]),
            prompts=tuple(entry["prompts"]),
        )
        for entry in msbench_table()["combination_types"]
    ]


def groups(
    kind: CombinationType, known: Sequence[MSBenchSubject]
) -> Iterator[tuple[MSBenchSubject, ...]]:
    """Every choice of subjects of a type, in list order, without repetition."""
    by_category: Mapping[str, list[MSBenchSubject]] = {
        category: [entry for entry in known if entry.category == category]
        for category in kind.categories
    }
    needed = Counter(kind.categories)
    choices = [combinations(by_category[category], count) for category, count in needed.items()]
    for chosen in product(*choices):
        left = {category: iter(names) for category, names in zip(needed, chosen, strict=True)}
        yield tuple(next(left[category]) for category in kind.categories)


def role(category: str) -> Literal["subject", "scene", "wearing"]:
    """The role of a reference of this category."""
    if category == "scene":
        return "scene"
    return "wearing" if category.endswith("wearing") else "subject"


def references(files: Collector) -> dict[str, Reference]:
    """The subjects that are there, by name; the others are noted as missing."""
    found = {}
    for entry in subjects():
        sha256 = files.sha256(entry.file)
        if sha256:
            found[entry.name] = reference_of(
                path=entry.file,
                sha256=sha256,
                source="msbench",
                role=role(entry.category),
                class_word=entry.class_word,
            )
    return found


def build(info: SuiteInfo, data_root: Path, options: BuildOptions) -> Suite:
    """Builds the suite.

    Raises:
        PartialSourceError: If images are missing and that was not allowed.
    """
    files = Collector("msbench", data_root)
    found = references(files)
    name = finished_name(info, options, files.missing, expected=len(subjects()))
    known = [entry for entry in subjects() if entry.name in found]
    return suite_of(
        (
            _case(name, kind, group, found, prompt)
            for kind in combination_types()
            for group in groups(kind, known)
            for prompt in range(len(kind.prompts))
        ),
        name=name,
        kind="multi_subject",
        sources=(SuiteSource(name="msbench", revision=SOURCES["msbench"].revision),),
        expected={"references": info.references, "combinations": 1148},
        metrics=("clip_t", "clip_i", "dino_i"),
        variants=options.recorded(info),
    )


def _case(
    suite: str,
    kind: CombinationType,
    group: tuple[MSBenchSubject, ...],
    found: Mapping[str, Reference],
    prompt: int,
) -> Case:
    chosen = tuple(replace(found[entry.name], person=place) for place, entry in enumerate(group))
    return identified(
        suite,
        1,
        alias=f"{kind.name}-{'-'.join(entry.name for entry in group)}-{prompt}",
        kind="multi_subject",
        references=chosen,
        prompt=kind.prompts[prompt].format(*(entry.class_word for entry in group)),
        people=tuple(
            Person(person=place, ref_id=reference.ref_id, box=box)
            for place, (reference, box) in enumerate(zip(chosen, kind.boxes, strict=True))
        ),
        combination=kind.name,
        layout_source="msbench",
        tags={"combination": (kind.name,)},
    )
