"""Cases as lines: lossless, and strict about everything else."""

import json
from dataclasses import replace

import pytest

from idbench.prompts.cases import (
    Edit,
    EditFace,
    Element,
    File,
    Person,
    Reference,
    identify,
    prompt_id,
)
from idbench.prompts.manifest import case_from_line, case_to_line
from idbench.prompts.strict import ManifestError

A, B = "a" * 64, "b" * 64


def _reference(sha256, person=0, role="identity"):
    return Reference(
        ref_id="r" + sha256[:12],
        sha256=sha256,
        path="Ordner (1)/名前 é.png",
        source="celeba",
        role=role,
        person=person,
    )


def _examples(make_case):
    yield make_case()
    yield make_case(people=(), pose_axis=None, tags={}, source_rows=(), target_gender="male")
    yield make_case(
        kind="multi_id",
        references=(_reference(A), _reference(B, 1)),
        people=(
            Person(person=0, ref_id="r" + A[:12], expression="sad", box=(0.0, 0.125, 0.5, 1.0)),
            Person(person=1, ref_id="r" + B[:12], orientation="front"),
        ),
        layout_source="idbench",
        ground_truth=File(path="gt.png", sha256=A),
    )
    yield make_case(
        kind="multi_subject",
        references=(_reference(A, 0, "subject"), _reference(B, 1, "wearing")),
        people=(Person(person=0, ref_id="r" + A[:12], box=(0.1, 0.1, 0.4, 0.9)),),
        combination="living_upwearing",
        pose_axis=None,
    )
    yield make_case(
        kind="subject",
        references=(_reference(A, 0, "style"),),
        people=(),
        pose_axis=None,
        category="style",
        subject='a "quoted"\nsubject\u2028',
        difficulty="imaginative",
        segment_query="",
    )
    yield make_case(
        kind="edit_restoration",
        references=(_reference(A),),
        people=(),
        pose_axis=None,
        edit=Edit(
            source="editedid",
            original=File(path="1/original.png", sha256=A),
            edited=File(path="1/edited.png", sha256=B, source="embedded"),
            restored=File(path="1/restored.png", sha256=A),
            instruction="帽子をかぶせる",
            elements=(
                Element(text="hat", mask=File(path="m.png", sha256=B), person=1),
                Element(text="glasses"),
            ),
            faces=(
                EditFace(person=0, original_box=(1, 2, 3, 4), restore=False),
                EditFace(person=1, edited_box=(10.5, 20, 30, 40)),
            ),
            corruption="high",
            scenario=("occluded", "focused"),
            editor="x",
        ),
    )


def test_every_kind_of_case_survives_the_round_trip(make_case):
    for case in _examples(make_case):
        line = case_to_line(case)
        assert "\n" not in line
        assert case_from_line(line, "here") == case
        assert case_to_line(case_from_line(line.encode(), "here")) == line


def test_a_single_person_with_a_box_is_refused_when_writing(make_case):
    case = make_case()
    boxed = replace(case.people[0], box=(0, 0, 1, 1))
    with pytest.raises(ManifestError, match="single_id case has one person"):
        case_to_line(replace(case, people=(boxed,)))


def _broken(case, path, value):
    record = json.loads(case_to_line(case))
    target = record
    *parents, last = path
    for key in parents:
        target = target[key]
    if value is KeyError:
        del target[last]
    else:
        target[last] = value
    return json.dumps(record)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["case_id"], KeyError, r"key 'case_id': missing"),
        (["case_id"], "c123", r"key 'case_id': expected a string like"),
        (["kind"], "singl_id", r"key 'kind': expected single_id \| multi_id"),
        (["colour"], 1, r"unknown key 'colour'"),
        (["multiplicity"], 0, r"key 'multiplicity': expected a whole number of at least 1"),
        (["multiplicity"], True, r"key 'multiplicity'"),
        (["multiplicity"], 1.0, r"key 'multiplicity'"),
        (["prompt"], 7, r"key 'prompt': expected a string, got 7"),
        (["prompt"], "cafe\u0301", r"key 'prompt': .*NFC"),
        (["prompt"], "\ud800", r"key 'prompt': .*surrogates"),
        (["prompt"], "other", r"key 'prompt_id': .* is not the hash of the prompt"),
        (["references"], {}, r"key 'references': expected a list"),
        (["references", 0, "sha256"], "A" * 64, r"references\[0\], key 'sha256'"),
        (["references", 0, "ref_id"], "r" + "f" * 12, r"references\[0\], key 'ref_id'"),
        (["references", 0, "path"], "/etc/passwd", r"references\[0\], key 'path'"),
        (["references", 0, "path"], "a/../../b", r"references\[0\], key 'path'"),
        (["references", 0, "path"], "a\\b", r"references\[0\], key 'path'"),
        (["references", 0, "path"], "C:/x", r"references\[0\], key 'path': a drive"),
        (["references", 0, "path"], "https://x/y.png", r"references\[0\], key 'path': .*address"),
        (["references", 0, "gender"], "f", r"key 'gender': expected female \| male \| unknown"),
        (["references", 0, "face_box"], [1, 2, 1, 4], r"key 'face_box'"),
        (["references", 0, "face_box"], [0, 0, 1e999, 1], r"not JSON|key 'face_box'"),
        (["references", 0, "extra"], None, r"references\[0\]: unknown key 'extra'"),
        (["tags"], {"a": "b"}, r"key 'tags.a': expected a list of strings"),
        (["attrs", "pose_axis"], "roll", r"attrs, key 'pose_axis'"),
        (["attrs", "people"], [], r"attrs: unknown key 'people'"),
        (["attrs", "category"], None, r"attrs, key 'category': expected a string"),
        (["source_rows", 0, "row"], -1, r"source_rows\[0\], key 'row'"),
    ],
)
def test_a_broken_line_names_file_line_and_key(make_case, path, value, message):
    with pytest.raises(ManifestError, match=message) as caught:
        case_from_line(_broken(make_case(), path, value), "cases.jsonl, line 3")
    assert str(caught.value).startswith("cases.jsonl, line 3")


@pytest.mark.parametrize(
    "line",
    [
        *("", "{", "[]", "null", "{}", '{"kind": NaN}', '{"kind":"a","kind":"a"}', "["),
        *("[" * 100_000, '{"a":' * 50_000, "1" * 10_000, b"\xff\xfe{\x00}\x00", b"\x80"),
    ],
)
def test_what_is_not_a_case_is_our_own_error(line):
    with pytest.raises(ManifestError, match=r"^here"):
        case_from_line(line, "here")


def test_people_must_be_references_of_the_case(make_case):
    case = make_case(
        kind="multi_id",
        references=(_reference(A),),
        people=(Person(person=0, ref_id="r" + B[:12]),),
        pose_axis=None,
    )
    with pytest.raises(ManifestError, match="rbbbbbbbbbbbb is no reference of the case"):
        case_from_line(case_to_line(case), "here")


def test_references_must_stand_in_person_order(make_case):
    case = make_case(
        kind="multi_id", references=(_reference(A, 1), _reference(B)), people=(), pose_axis=None
    )
    with pytest.raises(ManifestError, match="not in person order"):
        case_from_line(case_to_line(case), "here")


def test_the_id_is_recomputable_after_the_round_trip(make_case):
    for case in _examples(make_case):
        again = case_from_line(case_to_line(case), "here")
        assert identify(again, suite="example", version=1) == case.case_id
        assert again.prompt_id == prompt_id(case.prompt)
