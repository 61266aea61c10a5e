"""The suites of IBench (typemovie/IBench@1349955): identities of a set x prompts of a list."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from idbench.prompts.acquisition.catalogue import SOURCES
from idbench.prompts.acquisition.locks import find_file, read_lock
from idbench.prompts.builders.collecting import (
    BuildOptions,
    Collector,
    PartialSourceError,
    finished_name,
)
from idbench.prompts.cases import Case, Reference, SourceRow
from idbench.prompts.references import CLASS_WORDS, Gender, identified, reference_of
from idbench.prompts.sources import source_root
from idbench.prompts.spooling import spooled_suite
from idbench.prompts.strict import ManifestError, Record, parse_json, read_utf8
from idbench.prompts.suite_info import SuiteInfo
from idbench.prompts.suites import Suite, SuiteSource
from idbench.prompts.tables import table

METRICS = (
    "fid",
    "aesthetic",
    "imaging_quality",
    "facesim",
    "antifacesim",
    "landmarkdiff",
    "clip_i",
    "clip_t",
    "posediv",
    "exprdiv",
)
_GENDERS = ("female", "male", "unknown")
_VBENCH_FILE = "prompts/augmented_prompts/gpt_enhanced_prompts/prompts_per_category_longer"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    identities: str
    prompts: str


_PLANS = {
    "ibench-chineseid-long": _Plan(identities="chineseid", prompts="human_longer"),
    "ibench-chineseid-action": _Plan(identities="chineseid", prompts="human_action_longer"),
    "ibench-unsplash50-short": _Plan(identities="unsplash50", prompts="unsplash50"),
    "ibench-generateid-typemovie": _Plan(identities="generateid", prompts="typemovie"),
    "ibench-mystyle-short": _Plan(identities="mystyleid", prompts="mystyle"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """One entry of an identity list; `path` is relative to the repository."""

    num: int
    path: str
    gender: Gender


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """One entry of a prompt list, before substitution."""

    num: int
    text: str
    attributes: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()


def build(info: SuiteInfo, data_root: Path, options: BuildOptions) -> Suite:
    """Builds one of the five suites.

    Raises:
        PartialSourceError: If images are missing and that was not allowed.
        DriftError: If an image differs from the lock.
        ManifestError: If a list is malformed.
    """
    files = Collector("ibench", data_root, read_lock(SOURCES["ibench"].lock))
    return build_from(files, info, data_root, options)


def build_from(files: Collector, info: SuiteInfo, data_root: Path, options: BuildOptions) -> Suite:
    """As `build`, from files that need not be those of the lock."""
    plan = _PLANS[info.name]
    list_path = f"data/images/{plan.identities}_images.json"
    people = read_identities(files.text(list_path), list_path)
    words = options.variant(info, "class_word")
    references = []
    for done, person in enumerate(people, start=1):
        sha256 = files.sha256(person.path)
        if sha256:
            references.append((person, _reference(person, sha256, words)))
        if options.progress:
            options.progress(done, len(people), person.path)
    prompt_path, templates = _templates(plan, files)
    if info.variants.get("prompt_repair") and options.variant(info, "prompt_repair") == "on":
        templates = _repaired(plan, templates, data_root)
    name = finished_name(info, options, files.missing, expected=len(people))
    cases: Iterator[Case] = (
        _case(name, person, reference, template, (list_path, prompt_path))
        for person, reference in references
        for template in templates
    )
    return spooled_suite(
        cases,
        name=name,
        kind="single_id",
        without_id="per_case",
        sources=(
            SuiteSource(
                name="ibench", revision=SOURCES["ibench"].revision, lock=SOURCES["ibench"].lock
            ),
        ),
        expected={"references": info.references, "prompts": len(templates)},
        metrics=METRICS,
        variants=options.recorded(info),
        # a case counts as often as the lists hold it, as in the official means, unless dropped
        weighted=options.variant(info, "duplicates") == "keep",
    )


def read_identities(text: str, where: str) -> list[Identity]:
    """An identity list. Paths were absolute on the authors' machine; `data/images/...` is kept.

    Raises:
        ManifestError: If the list is malformed.
    """
    found = []
    for record in _rows(text, where):
        path = record.text("id").replace("\\", "/")
        match = re.search(r"(?:^|/)(data/images/.+)$", path)
        if not match or ".." in path.split("/"):
            raise record.fail("id", "a path with data/images/ in it", path)
        found.append(
            Identity(
                num=record.whole("num", 0),
                path=match[1],
                gender=record.choice("gender", _GENDERS),
            )
        )
        record.done()
    return found


def read_templates(text: str, where: str) -> list[Template]:
    """A prompt list in JSON.

    Raises:
        ManifestError: If the list is malformed.
    """
    found = []
    for record in _rows(text, where):
        found.append(
            Template(
                num=record.whole("num", 0),
                text=record.text("prompt"),
                attributes=tuple(map(str, record.sequence("prompt_attr"))),
                styles=tuple(map(str, record.sequence("prompt_style"))),
            )
        )
        record.done()
    return found


def _rows(text: str, where: str) -> Iterator[Record]:
    record = Record(parse_json(text, where), where)
    yield from record.records("datas")
    tags = record.optional_record("tags")
    if tags and tags.take("category") != "imageid":
        raise ManifestError(f"{where}, key 'tags.category': expected imageid")
    record.done()


def read_mystyle(text: str) -> list[Template]:
    """The 45 prompts of `mystyle.txt`: lines with `<class word>`, a wrapped line joined again.

    The other lines are headings, except the one that continues its predecessor.
    """
    prompts: list[str] = []
    lines = [line.strip() for line in text.splitlines()]
    for line in lines:
        if "<class word>" in line:
            prompts.append(line)
        elif line == "Gogh" and prompts and prompts[-1].endswith("Vincent Van"):
            prompts[-1] += " Gogh"
    return [
        Template(num=num, text=prompt, attributes=("short",)) for num, prompt in enumerate(prompts)
    ]


def _templates(plan: _Plan, files: Collector) -> tuple[str, list[Template]]:
    if plan.prompts == "mystyle":
        path = "data/prompts/mystyle.txt"
        return path, read_mystyle(files.text(path))
    path = f"data/prompts/{plan.prompts}_template.json"
    if find_file(files.root, path) is None and plan.prompts.startswith("human_"):
        return path, vbench_templates(plan.prompts)
    return path, read_templates(files.text(path), path)


def vbench_templates(name: str) -> list[Template]:
    """The long lists as they ship with the package, from VBench (Apache-2.0)."""
    length = "long"
    return [
        Template(num=int(row["num"]), text=row["prompt"], attributes=(length,), styles=(name,))
        for row in table("vbench_prompts")
        if row["list"] == name
    ]


def _repaired(plan: _Plan, templates: list[Template], data_root: Path) -> list[Template]:
    """Joins the prompt that a line wrap cut in two, or restores the one that was cut short."""
    by_num = {template.num: template for template in templates}
    if plan.prompts == "unsplash50":
        first, second = by_num[13], by_num.pop(14)
        by_num[13] = replace(first, text=f"{first.text} {second.text}")
    else:
        path = source_root("vbench-prompts", data_root) / _VBENCH_FILE / "human_longer.txt"
        if not path.is_file():
            raise PartialSourceError(f"{path} is missing; idbench data fetch vbench-prompts")
        cut = by_num[2].text
        whole = [line.strip() for line in read_utf8(path).splitlines()]
        matches = [line for line in whole if line.startswith(cut)]
        if len(matches) != 1:
            raise ManifestError(f"{path}: no line continues {cut[-40:]!r}")
        by_num[2] = replace(by_num[2], text=matches[0])
    return list(by_num.values())


def fill(template: str, class_word: str) -> str:
    """The prompt of a template: no generation script is published, see the page of the suite."""
    text = template.replace("[portrait,]", "portrait,")
    for placeholder in ("{person}", "<class word>"):
        text = text.replace(placeholder, class_word)
    return text


def _reference(person: Identity, sha256: str, words: str) -> Reference:
    return reference_of(
        path=person.path,
        sha256=sha256,
        source="ibench",
        class_word="person" if words == "neutral" else CLASS_WORDS[person.gender],
        gender=person.gender,
    )


def _case(
    suite: str,
    person: Identity,
    reference: Reference,
    template: Template,
    lists: tuple[str, str],
) -> Case:
    conflict = gender_conflict(template.text, person.gender)
    return identified(
        suite,
        1,
        alias=f"{Path(person.path).stem}-{template.num}",
        kind="single_id",
        references=(reference,),
        prompt=fill(template.text, reference.class_word or "person"),
        tags={
            "gender_conflict": ("yes" if conflict else "no",),
            "prompt_attr": template.attributes,
            "prompt_style": template.styles,
        },
        source_rows=(
            SourceRow(file=lists[0], row=person.num),
            SourceRow(file=lists[1], row=template.num),
        ),
    )


_FEMALE = frozenset(
    ("woman", "women", "girl", "girls", "lady", "ladies", "mother", "daughter", "she", "her")
)
_MALE = frozenset(("man", "men", "boy", "boys", "gentleman", "father", "son", "he", "his", "him"))


def named_gender(prompt: str) -> Literal["female", "male", "both", "neither"]:
    """The gender of the people that a prompt names, by word search."""
    words = set(re.findall(r"[a-z]+", prompt.lower()))
    female, male = bool(words & _FEMALE), bool(words & _MALE)
    if female and male:
        return "both"
    return "female" if female else "male" if male else "neither"


def gender_conflict(prompt: str, gender: Gender) -> bool:
    """Whether the prompt names only people of the other gender than the identity's."""
    opposite: dict[Gender, str] = {"female": "male", "male": "female"}
    return named_gender(prompt) == opposite.get(gender)
