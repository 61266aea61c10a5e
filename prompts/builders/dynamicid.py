"""The suites of DynamicID (arXiv 2503.06505): CelebA people, expressions, orientations, prompts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from idbench.prompts.acquisition.catalogue import SOURCES
from idbench.prompts.builders.celeba import (
    DYNAMICID_IDENTITIES,
    CelebA,
    crop_of,
    dynamicid_people,
    image_folder,
    read_celeba,
)
from idbench.prompts.builders.collecting import (
    BuildOptions,
    Collector,
    PartialSourceError,
    finished_name,
)
from idbench.prompts.cases import Box, Case, Kind, Person, Reference
from idbench.prompts.references import identified, reference_of
from idbench.prompts.spooling import spooled_suite
from idbench.prompts.suite_info import SuiteInfo
from idbench.prompts.suites import Suite, SuiteSource
from idbench.prompts.tables import table

COMBINATIONS = 28  # 7 expressions x 4 orientations
PAIR_BOXES: tuple[Box, ...] = ((0.10, 0.10, 0.45, 0.60), (0.55, 0.10, 0.90, 0.60))
TRIPLE_BOXES: tuple[Box, ...] = (
    (0.03, 0.10, 0.31, 0.60),
    (0.36, 0.10, 0.64, 0.60),
    (0.69, 0.10, 0.97, 0.60),
)
_PLACES = {2: ("left", "right"), 3: ("left", "middle", "right")}
_COUNTS = {2: "both", 3: "all three"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Combination:
    """What is asked of one face, and how the prompt says it."""

    expression: str
    orientation: str
    phrase: str
    pose_axis: str

    def said(self) -> str:
        """Such as `a happy expression in a side view`."""
        article = "an" if self.expression[0] in "aeiou" else "a"
        return f"{article} {self.expression} expression {self.phrase}"


def combination(index: int) -> Combination:
    """Combination `index` mod 28: expression = index mod 7, orientation = index div 7."""
    rows = table("dynamicid_attributes")
    expressions = [row for row in rows if row["kind"] == "expression"]
    orientations = [row for row in rows if row["kind"] == "orientation"]
    index %= COMBINATIONS
    view = orientations[index // len(expressions)]
    return Combination(
        expression=expressions[index % len(expressions)]["value"],
        orientation=view["value"],
        phrase=view["prompt_phrase"],
        pose_axis=view["pose_axis"],
    )


def single_index(identity: int, prompt: int) -> int:
    """The combination that prompt `prompt` asks of identity `identity`.

    A cycle with equal marginals: each identity sees 20 different combinations, each prompt sees
    every combination 17 or 18 times. The paper does not say how attributes were assigned.
    """
    return (identity + 5 * prompt) % COMBINATIONS


def build_single(info: SuiteInfo, data_root: Path, options: BuildOptions) -> Suite:
    """Builds dynamicid-single, or with every combination dynamicid-single-full.

    Raises:
        PartialSourceError: If there are too few people or images and that was not allowed.
    """
    people = _People(info, data_root, options)
    full = info.name.endswith("-full")
    return people.suite("single_id", _single_cases(people.name, people.references, full), ())


def _single_cases(suite: str, references: Sequence[Reference], full: bool) -> Iterator[Case]:
    prompts = table("dynamicid_prompts")
    combinations = [combination(index) for index in range(COMBINATIONS)]
    for number, reference in enumerate(references):
        for place, row in enumerate(prompts):
            chosen = range(COMBINATIONS) if full else (single_index(number, place),)
            for index in chosen:
                asked = combinations[index]
                yield identified(
                    suite,
                    1,
                    alias=f"{Path(reference.path).stem}-{place}-{index}",
                    kind="single_id",
                    references=(reference,),
                    prompt=f"a person with {asked.said()}, {row['prompt']}",
                    people=(
                        Person(
                            person=0,
                            ref_id=reference.ref_id,
                            expression=asked.expression,
                            orientation=asked.orientation,
                        ),
                    ),
                    pose_axis=asked.pose_axis,
                    category=row["category"],
                    tags={"category": (row["category"],)},
                )


def build_multi(info: SuiteInfo, data_root: Path, options: BuildOptions) -> Suite:
    """Builds dynamicid-multi (disjoint pairs) or dynamicid-multi-3 (disjoint triples).

    Raises:
        PartialSourceError: If there are too few people or images and that was not allowed.
    """
    people = _People(info, data_root, options)
    size = 3 if info.name.endswith("-3") else 2
    groups = [
        people.references[start : start + size]
        for start in range(0, len(people.references) - size + 1, size)
    ]
    notes = (
        "Faces are matched to people from left to right; the assignment by best similarity is "
        "another mode, because it hides swaps.",
    )
    return people.suite("multi_id", _multi_cases(people.name, groups), notes)


def _multi_cases(suite: str, groups: Sequence[Sequence[Reference]]) -> Iterator[Case]:
    combinations = [combination(index) for index in range(COMBINATIONS)]
    for number, group in enumerate(groups):
        boxes = PAIR_BOXES if len(group) == 2 else TRIPLE_BOXES
        for place, row in enumerate(table("dynamicid_prompts")):
            # neighbours are 9 apart, so they differ in expression and in orientation
            first = single_index(number, place)
            asked = [combinations[(first + 9 * i) % COMBINATIONS] for i in range(len(group))]
            references = tuple(
                replace(reference, person=person) for person, reference in enumerate(group)
            )
            yield identified(
                suite,
                1,
                alias=f"{'-'.join(Path(r.path).stem for r in group)}-{place}",
                kind="multi_id",
                references=references,
                prompt=multi_prompt(asked, row["prompt"], style=row["category"] == "style"),
                people=tuple(
                    Person(
                        person=person,
                        ref_id=reference.ref_id,
                        expression=entry.expression,
                        orientation=entry.orientation,
                        box=box,
                    )
                    for person, (reference, entry, box) in enumerate(
                        zip(references, asked, boxes, strict=True)
                    )
                ),
                category=row["category"],
                layout_source="idbench",
                tags={"category": (row["category"],)},
            )


def multi_prompt(asked: Sequence[Combination], prompt: str, *, style: bool) -> str:
    """The sentence of the paper's example; a style stands without `both`."""
    places = _PLACES[len(asked)]
    said = [
        f"the person {'in the' if place == 'middle' else 'on the'} {place} has {entry.said()}"
        for place, entry in zip(places, asked, strict=True)
    ]
    text = ", ".join(said[:-1]) + ", and " + said[-1]
    ending = prompt if style else f"{_COUNTS[len(asked)]} {prompt}"
    return f"{text[0].upper()}{text[1:]}, {ending}."


class _People:
    """The people of a DynamicID suite, and the header that its suites share."""

    def __init__(self, info: SuiteInfo, data_root: Path, options: BuildOptions) -> None:
        files = Collector("celeba", data_root)
        celeba: CelebA = read_celeba(files.root)
        folder = image_folder(files.root, options.variant(info, "crop"))
        if folder is None:
            raise PartialSourceError(f"no folder of CelebA images below {files.root}")
        self.references: list[Reference] = []
        chosen = list(islice(dynamicid_people(celeba), DYNAMICID_IDENTITIES))
        for done, (_, name) in enumerate(chosen, start=1):
            path = f"{folder}/{name}"
            sha256 = files.sha256(path)
            if sha256:
                gender = "male" if celeba.male(name) else "female"
                self.references.append(
                    reference_of(
                        path=path,
                        sha256=sha256,
                        source="celeba",
                        class_word="person",
                        gender="male" if gender == "male" else "female",
                    )
                )
            if options.progress:
                options.progress(done, len(chosen), path)
        short = DYNAMICID_IDENTITIES - len(chosen)
        files.missing.extend(f"identity {len(chosen) + i + 1}" for i in range(short))
        self.name = finished_name(info, options, files.missing, expected=DYNAMICID_IDENTITIES)
        self._info = info
        self._variants = {**options.recorded(info), "crop": crop_of(folder)}

    def suite(self, kind: Kind, cases: Iterator[Case], notes: tuple[str, ...]) -> Suite:
        return spooled_suite(
            cases,
            name=self.name,
            kind=kind,
            sources=(SuiteSource(name="celeba", revision=SOURCES["celeba"].revision),),
            expected={"references": DYNAMICID_IDENTITIES, "prompts": self._info.prompts},
            metrics=("facesim", "expression", "pose", "clip_t"),
            variants=self._variants,
            notes=(*notes, "Chance levels: expression 1/7 = 0.143, orientation 1/4 = 0.25."),
        )
