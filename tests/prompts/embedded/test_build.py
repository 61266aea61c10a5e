"""The committed suites are exactly what the builder makes, and ask what they say they ask."""

import csv
import io
from collections import Counter
from importlib.util import find_spec

import pytest

from idbench.prompts.embedded.build import build_embedded
from idbench.prompts.freezing import write_suite
from idbench.prompts.suites import load_suite, suite_folder

pytestmark = pytest.mark.skipif(
    not (find_spec("skimage") and find_spec("insightface")),
    reason="the photographs come with scikit-image and insightface",
)

BUNDLED = ("demo", "tiny-single", "tiny-long", "tiny-multi", "tiny-subject", "tiny-edit")


@pytest.mark.parametrize("name", BUNDLED)
def test_the_builder_regenerates_the_committed_files(tmp_path, name):
    write_suite(build_embedded(name, tmp_path), tmp_path / "again")
    committed = suite_folder(name, tmp_path)
    for file in ("suite.yaml", "cases.jsonl"):
        assert (tmp_path / "again" / file).read_bytes() == (committed / file).read_bytes()


def test_the_demo_is_seven_people_times_the_same_prompts(tmp_path):
    cases = load_suite("demo", data_root=tmp_path).cases
    people = Counter(case.references[0].ref_id for case in cases)
    assert len(people) == 7
    assert set(people.values()) == {3}
    assert Counter(case.tags["prompt_attr"] for case in cases) == {("short",): 14, ("long",): 7}
    genders = {case.references[0].ref_id: case.references[0].gender for case in cases}
    assert Counter(genders.values()) == {"female": 4, "male": 3}


def test_the_class_word_goes_into_the_prompt_with_its_article(tmp_path):
    for name in ("demo", "tiny-single"):
        for case in load_suite(name, data_root=tmp_path).cases:
            assert f"a {case.references[0].class_word}" in case.prompt or (
                f"surprised {case.references[0].class_word}" in case.prompt
            )
            assert "{" not in case.prompt


def test_tiny_single_has_twelve_long_and_six_short_prompts_with_labels(tmp_path):
    cases = load_suite("tiny-single", data_root=tmp_path).cases
    assert Counter(case.tags["prompt_attr"] for case in cases) == {("long",): 12, ("short",): 6}
    for case in cases:
        assert case.people[0].expression
        assert case.people[0].orientation in {"front", "side", "three_quarter", "up", "down"}
        words = len(case.prompt.split())
        assert words > 77 if case.tags["prompt_attr"] == ("long",) else words < 15


def test_labelled_elements_occur_in_the_prompt(tmp_path):
    for case in load_suite("tiny-single", data_root=tmp_path).cases:
        for element in case.tags["elements"]:
            assert element.split()[-1].rstrip("s") in case.prompt.lower(), (case.alias, element)


def test_tiny_long_asks_the_same_in_two_languages(tmp_path):
    pairs = {}
    for case in load_suite("tiny-long", data_root=tmp_path).cases:
        (language,), (name,) = case.tags["language"], case.tags["pair"]
        pairs.setdefault(name, {})[language] = case
    assert len(pairs) == 12
    for name, pair in pairs.items():
        english, chinese = pair["en"], pair["zh"]
        assert english.people == chinese.people, name
        assert len(english.prompt.split()) > 77
        assert sum("\u4e00" <= letter <= "\u9fff" for letter in chinese.prompt) > 100
        assert "一位女士" in chinese.prompt
        assert all(element in chinese.prompt for element in chinese.tags["elements"])
        assert len(english.tags["elements"]) == len(chinese.tags["elements"])


def test_tiny_multi_pairs_stand_left_to_right(tmp_path):
    cases = load_suite("tiny-multi", data_root=tmp_path).cases
    pairs = Counter(tuple(ref.ref_id for ref in case.references) for case in cases)
    assert sorted(pairs.values()) == [2, 2, 2]
    for case in cases:
        left, right = case.people
        assert left.box[2] < right.box[0]
        assert (left.expression, left.orientation) != (right.expression, right.orientation)
        assert case.tags["synthetic"]


def test_tiny_subject_follows_the_difficulty_split(tmp_path):
    cases = load_suite("tiny-subject", data_root=tmp_path).cases
    split = Counter((case.subject, case.difficulty) for case in cases)
    assert len(split) == 12
    for (_, difficulty), number in split.items():
        assert number == {"photorealistic": 4, "style_transfer": 3, "imaginative": 2}[difficulty]
    assert {case.category for case in cases} == {"human", "animal", "object"}


def test_tiny_edit_crosses_two_elements_with_three_faces(tmp_path):
    cases = load_suite("tiny-edit", data_root=tmp_path).cases
    found = {(case.edit.elements[0].text, case.edit.corruption) for case in cases}
    assert found == {
        (text, corruption)
        for text in ("black-framed glasses", "red cap")
        for corruption in (None, "high", "low")
    }


def test_prompt_tables_are_well_formed():
    from importlib.resources import files

    text = (files("idbench.prompts") / "data" / "embedded_prompts.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len({row["name"] for row in rows}) == len(rows)
    assert all(row["text"].count("{person}") == 1 for row in rows)
