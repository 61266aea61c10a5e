"""Small suites that tests can write to disk and break."""

from dataclasses import replace

import pytest

from idbench.prompts.cases import Case, Person, Reference, SourceRow, identify, prompt_id
from idbench.prompts.freezing import suite_of


@pytest.fixture
def make_case():
    """Makes a single_id case of suite "example", version 1, with correct ids."""

    def make(number=0, prompt="A person reads a letter.", suite="example", **fields):
        sha256 = f"{number:064x}"
        reference = Reference(
            ref_id="r" + sha256[:12],
            sha256=sha256,
            path=f"faces/{number}.png",
            source="scikit-image",
            class_word="woman",
            gender="female",
            face_box=(1.0, 2.0, 30.5, 40.0),
        )
        case = Case(
            **{
                "case_id": "",
                "alias": f"{number}-0",
                "kind": "single_id",
                "references": (reference,),
                "prompt": prompt,
                "prompt_id": prompt_id(prompt),
                "people": (
                    Person(person=0, ref_id=reference.ref_id, expression="happy", orientation="up"),
                ),
                "pose_axis": "pitch",
                "tags": {"prompt_attr": ("short",), "prompt_style": ()},
                "source_rows": (SourceRow(file="list.json", row=number),),
            }
            | fields
        )
        return replace(case, case_id=identify(case, suite=suite, version=1))

    return make


@pytest.fixture
def small_suite(make_case):
    return suite_of(
        [make_case(number) for number in range(5)],
        name="example",
        kind="single_id",
        samples_per_case=2,
        notes=("Ein Satz mit Umlauten: äöü",),
    )
