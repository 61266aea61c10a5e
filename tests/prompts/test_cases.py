"""Ids and seeds against the golden values printed in the format's definition."""

from dataclasses import replace

import pytest

from idbench.prompts.cases import (
    Person,
    Reference,
    canonical_json,
    case_id,
    hashed_seed,
    identify,
    prompt_id,
)

A, B = "a" * 64, "b" * 64


def test_golden_case_id_of_a_single_identity():
    found = case_id(
        suite="ibench-chineseid-long",
        version=1,
        kind="single_id",
        refs=[A],
        prompt="A person reads a letter.",
        attrs={},
    )
    assert found == "cded8f8cbfaad2316"


def _golden_pair(make_case):
    def reference(sha256, person):
        return Reference(
            ref_id="r" + sha256[:12], sha256=sha256, path="x.png", source="celeba", person=person
        )

    return make_case(
        kind="multi_id",
        references=(reference(A, 0), reference(B, 1)),
        prompt="The person on the left has a neutral expression in a side view, and the person on "
        "the right has a sad expression in a front view, both wearing headphones.",
        people=(
            Person(
                person=0,
                ref_id="r" + A[:12],
                expression="neutral",
                orientation="side",
                box=(0.1, 0.1, 0.45, 0.6),
            ),
            Person(
                person=1,
                ref_id="r" + B[:12],
                expression="sad",
                orientation="front",
                box=(0.55, 0.1, 0.9, 0.6),
            ),
        ),
    )


def test_golden_case_id_of_a_pair_with_boxes(make_case):
    assert identify(_golden_pair(make_case), suite="dynamicid-multi", version=1) == (
        "c9af328549658ba24"
    )


def test_canonical_json_of_the_golden_single_case():
    payload = {
        "suite": "s",
        "version": 1,
        "kind": "single_id",
        "refs": [A],
        "prompt": "e\u0301",
        "attrs": {},
    }
    assert (
        canonical_json(payload)
        == (
            '{"attrs":{},"kind":"single_id","prompt":"\u00e9","refs":["'
            + A
            + '"],"suite":"s","version":1}'
        ).encode()
    )


@pytest.mark.parametrize("value", [1.5, None, {"a": None}, [0.1]])
def test_canonical_json_refuses_floats_and_nulls(value):
    with pytest.raises(TypeError, match="strings, whole numbers"):
        canonical_json({"x": value})


@pytest.mark.parametrize(
    ("case", "sample", "seed"),
    [
        ("cded8f8cbfaad2316", 0, 861516190),
        ("cded8f8cbfaad2316", 1, 533022614),
        ("c9af328549658ba24", 0, 502503763),
    ],
)
def test_golden_seeds(case, sample, seed):
    assert hashed_seed(case, sample) == seed


def test_prompt_id_is_the_hash_in_the_provenance_table():
    # sha256("A person reads a letter."), computed with sha256sum
    assert prompt_id("A person reads a letter.").startswith("p")
    assert prompt_id("abc") == "pba7816bf8f01"  # the SHA-256 test vector of FIPS 180


def test_prompt_id_does_not_depend_on_the_normal_form():
    assert prompt_id("caf\u00e9") == prompt_id("cafe\u0301")


@pytest.mark.parametrize(
    "change",
    [
        {"alias": "other"},
        {"multiplicity": 7},
        {"source_rows": ()},
        {"tags": {}},
        {"category": "human", "difficulty": "imaginative"},
    ],
)
def test_what_is_not_generated_stays_out_of_the_id(make_case, change):
    case = make_case()
    assert identify(replace(case, **change), suite="example", version=1) == case.case_id


@pytest.mark.parametrize("change", [{"prompt": "B"}, {"target_gender": "male"}, {"people": ()}])
def test_what_is_generated_changes_the_id(make_case, change):
    case = make_case()
    assert identify(replace(case, **change), suite="example", version=1) != case.case_id


def test_moving_a_reference_file_keeps_the_id(make_case):
    case = make_case()
    moved = replace(case.references[0], path="elsewhere/名.png", source="celeba")
    assert identify(replace(case, references=(moved,)), suite="example", version=1) == case.case_id


def test_a_box_on_one_person_only_differs_from_both(make_case):
    pair = _golden_pair(make_case)
    first, second = pair.people
    partial = replace(pair, people=(first, replace(second, box=None)))
    assert identify(partial, suite="s", version=1) != identify(pair, suite="s", version=1)
