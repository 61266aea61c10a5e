"""Builds the embedded suites from tables and photographs; their frozen form is committed."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from idbench.prompts.cases import Box, Case, Edit, EditFace, Element, File, Person, Reference
from idbench.prompts.embedded.drawn import DRAWN_FACES
from idbench.prompts.embedded.edits import ELEMENT_TEXTS, FACE_BOX, INSTRUCTIONS, TREATMENTS
from idbench.prompts.embedded.pictures import PHOTOGRAPHS
from idbench.prompts.embedded.recipes import PEOPLE, RECIPES
from idbench.prompts.freezing import suite_of
from idbench.prompts.references import CLASS_WORDS, identified, pose_axis, reference_of
from idbench.prompts.sources import EMBEDDED_VERSION
from idbench.prompts.suites import Suite, SuiteSource
from idbench.prompts.tables import table

# The word for the person in each language, by class word; prompts have the article or counter.
_WORDS = {
    "en": {"woman": "woman", "man": "man", "person": "person"},
    "zh": {"woman": "女士", "man": "男士", "person": "人士"},
}
DEMO_PROMPTS = ("short_chef", "short_side", "reading_letter")
LEFT: Box = (0.10, 0.10, 0.45, 0.60)
RIGHT: Box = (0.55, 0.10, 0.90, 0.60)

_SCIKIT_IMAGE = SuiteSource(name="scikit-image")
_INSIGHTFACE = SuiteSource(name="insightface")
_EMBEDDED = SuiteSource(name="embedded", revision=EMBEDDED_VERSION)


def build_embedded(name: str, data_root: Path) -> Suite:
    """Builds one of the bundled suites from scratch.

    Raises:
        FileNotFoundError: If a package that brings a photograph is not installed.
    """
    return _BUILDERS[name](data_root)


def _derived(path: str, data_root: Path) -> File:
    content = RECIPES[path](data_root)
    return File(path=path, sha256=hashlib.sha256(content).hexdigest(), source="embedded")


def _astronaut(role: str = "identity") -> Reference:
    photograph = PHOTOGRAPHS["astronaut"]
    return reference_of(
        path=photograph.path,
        sha256=photograph.sha256,
        source="scikit-image",
        role="subject" if role == "subject" else "identity",
        class_word="woman",
        gender="female",
        face_box=FACE_BOX,
    )


def _filled(row: Mapping[str, str], reference: Reference) -> str:
    word = _WORDS[row["language"]][reference.class_word or "person"]
    return row["text"].format(person=word)


def _prompt_cases(
    suite: str, rows: list[dict[str, str]], references: Mapping[str, Reference]
) -> Iterator[Case]:
    several = len({row["language"] for row in rows}) > 1
    for name, reference in references.items():
        for row in rows:
            yield identified(
                suite,
                1,
                alias=f"{name}-{row['name']}",
                kind="single_id",
                references=(reference,),
                prompt=row["text"].format(
                    person=_WORDS[row["language"]][reference.class_word or ""]
                ),
                people=(
                    Person(
                        person=0,
                        ref_id=reference.ref_id,
                        expression=row["expression"],
                        orientation=row["orientation"],
                    ),
                ),
                pose_axis=pose_axis(row["orientation"]),
                tags={
                    "elements": tuple(row["elements"].split(";")),
                    "language": (row["language"],),
                    **({"pair": (row["name"].removesuffix("_zh"),)} if several else {}),
                    "prompt_attr": (row["length"],),
                    "prompt_style": (row["style"],),
                },
            )


def _demo(data_root: Path) -> Suite:
    references = {}
    for person in PEOPLE:
        file = _derived(f"people/{person.name}.ppm", data_root)
        references[person.name] = reference_of(
            path=file.path,
            sha256=file.sha256,
            source="embedded",
            class_word=CLASS_WORDS[person.gender],
            gender=person.gender,
            face_box=person.face_box,
        )
    rows = {row["name"]: row for row in table("embedded_prompts")}
    return suite_of(
        _prompt_cases("demo", [rows[name] for name in DEMO_PROMPTS], references),
        name="demo",
        kind="single_id",
        sources=(_EMBEDDED, _SCIKIT_IMAGE, _INSIGHTFACE),
        expected={"references": 7, "prompts": 3},
        metrics=("facesim", "landmarkdiff", "posediv", "exprdiv"),
        notes=("Pictures are cut on the user's machine from what installed packages ship.",),
    )


def _tiny_single(data_root: Path) -> Suite:
    del data_root
    rows = [row for row in table("embedded_prompts") if row["language"] == "en"]
    return suite_of(
        _prompt_cases("tiny-single", rows, {"astronaut": _astronaut()}),
        name="tiny-single",
        kind="single_id",
        without_id="per_case",
        sources=(_SCIKIT_IMAGE,),
        expected={"references": 1, "prompts": 18},
        metrics=("facesim", "landmarkdiff", "posediv", "exprdiv", "clip_t"),
    )


def _tiny_long(data_root: Path) -> Suite:
    del data_root
    rows = [row for row in table("embedded_prompts") if row["length"] == "long"]
    return suite_of(
        _prompt_cases("tiny-long", rows, {"astronaut": _astronaut()}),
        name="tiny-long",
        kind="single_id",
        without_id="per_case",
        sources=(_SCIKIT_IMAGE,),
        expected={"references": 1, "prompts": 24},
        metrics=("facesim", "landmarkdiff", "posediv", "exprdiv", "clip_t"),
        notes=("Twelve long prompts in English, and the same in Chinese; tag `pair` joins them.",),
    )


def _tiny_multi(data_root: Path) -> Suite:
    people = {"astronaut": _astronaut()}
    for name in DRAWN_FACES:
        file = _derived(f"drawn/{name}.ppm", data_root)
        people[name] = reference_of(
            path=file.path,
            sha256=file.sha256,
            source="embedded",
            class_word="person",
            gender="unknown",
        )
    pairs = (("astronaut", "drawn-1"), ("drawn-2", "astronaut"), ("drawn-1", "drawn-2"))
    return suite_of(
        (
            _pair_case(row, number, [(name, people[name]) for name in pair])
            for pair in pairs
            for number, row in enumerate(table("embedded_pair_prompts"))
        ),
        name="tiny-multi",
        kind="multi_id",
        sources=(_SCIKIT_IMAGE, _EMBEDDED),
        expected={"references": 3, "prompts": 2},
        metrics=("facesim", "landmarkdiff", "posediv"),
        notes=("Drawn faces exercise layouts, not face models; their cases are tagged synthetic.",),
    )


def _pair_case(row: dict[str, str], number: int, pair: list[tuple[str, Reference]]) -> Case:
    references = tuple(
        reference_of(
            path=reference.path,
            sha256=reference.sha256,
            source=reference.source,
            person=person,
            class_word=reference.class_word,
            gender=reference.gender,
            face_box=reference.face_box,
        )
        for person, (_, reference) in enumerate(pair)
    )
    return identified(
        "tiny-multi",
        1,
        alias=f"{pair[0][0]}-{pair[1][0]}-{number}",
        kind="multi_id",
        references=references,
        prompt=row["text"],
        people=tuple(
            Person(
                person=person,
                ref_id=reference.ref_id,
                expression=row[f"expression_{side}"],
                orientation=row[f"orientation_{side}"],
                box=box,
            )
            for person, (reference, side, box) in enumerate(
                zip(references, ("left", "right"), (LEFT, RIGHT), strict=True)
            )
        ),
        layout_source="idbench",
        tags={"synthetic": tuple(name for name, _ in pair if name in DRAWN_FACES)},
    )


# subject -> photograph, category, template group, class word, what a segmenter looks for
_SUBJECTS = {
    "woman": ("astronaut", "human", "living", "woman", "woman"),
    "cat": ("chelsea", "animal", "living", "cat", "cat"),
    "coffee cup": ("coffee", "object", "object", "cup", "coffee cup"),
    "rocket": ("rocket", "object", "object", "rocket", "rocket"),
}


def _tiny_subject(data_root: Path) -> Suite:
    del data_root
    return suite_of(
        _subject_cases(),
        name="tiny-subject",
        kind="subject",
        sources=(_SCIKIT_IMAGE,),
        expected={"references": 4, "prompts": 9},
        metrics=("clip_t", "clip_i", "dino_i"),
    )


def _subject_cases() -> Iterator[Case]:
    for subject, (name, category, group, class_word, query) in _SUBJECTS.items():
        photograph = PHOTOGRAPHS[name]
        reference = reference_of(
            path=photograph.path,
            sha256=photograph.sha256,
            source="scikit-image",
            role="subject",
            class_word=class_word,
        )
        if category == "human":
            reference = _astronaut("subject")
        for row in table("flexip_msbench_prompts"):
            if row["group"] != group:
                continue
            yield identified(
                "tiny-subject",
                1,
                alias=f"{name}-{row['prompt_index']}",
                kind="subject",
                references=(reference,),
                prompt=row["prompt_template"].format(class_word=class_word),
                category=category,
                subject=subject,
                difficulty=row["difficulty"],
                segment_query=query,
                tags={"difficulty": (row["difficulty"],)},
            )


def _tiny_edit(data_root: Path) -> Suite:
    return suite_of(
        _edit_cases(data_root),
        name="tiny-edit",
        kind="edit_restoration",
        sources=(_SCIKIT_IMAGE, _EMBEDDED),
        expected={"references": 1, "prompts": 2},
        metrics=("id_sim", "clip_s", "facesim"),
        notes=(
            "In every edit the element is known to the pixel and the face is untouched, blurred or "
            "swapped, so the order of element and identity scores is known.",
        ),
    )


def _edit_cases(data_root: Path) -> Iterator[Case]:
    corruption = {"untouched": None, "blurred": "high", "swapped": "low"}
    for element, text in ELEMENT_TEXTS.items():
        mask = _derived(f"edits/{element}-mask.pgm", data_root)
        for treatment in TREATMENTS:
            edit = Edit(
                source="embedded",
                original=PHOTOGRAPHS["astronaut"],
                edited=_derived(f"edits/{element}-{treatment}.ppm", data_root),
                instruction=INSTRUCTIONS[element],
                elements=(Element(text=text, mask=mask),),
                faces=(EditFace(person=0, original_box=FACE_BOX, edited_box=FACE_BOX),),
                corruption=corruption[treatment],  # type: ignore[arg-type]  # literals of the table above
                scenario=("focused",),
                editor="programmatic",
            )
            yield identified(
                "tiny-edit",
                1,
                alias=f"astronaut-{element}-{treatment}",
                kind="edit_restoration",
                references=(_astronaut(),),
                prompt=INSTRUCTIONS[element],
                edit=edit,
                tags={"face": (treatment,), "scenario": ("focused",)},
            )


_BUILDERS: dict[str, Callable[[Path], Suite]] = {
    "demo": _demo,
    "tiny-single": _tiny_single,
    "tiny-long": _tiny_long,
    "tiny-multi": _tiny_multi,
    "tiny-subject": _tiny_subject,
    "tiny-edit": _tiny_edit,
}
