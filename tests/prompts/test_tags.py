"""What results can be split by."""

from idbench.prompts.cases import Edit, File
from idbench.prompts.suites import load_suite
from idbench.prompts.tags import case_tags


def test_fields_of_a_case_become_tags(make_case):
    found = case_tags(make_case(category="human", difficulty="imaginative"))
    assert found["expression"] == ("happy",)
    assert found["orientation"] == ("up",)
    assert found["pose_axis"] == ("pitch",)
    assert found["category"] == ("human",)
    assert found["difficulty"] == ("imaginative",)
    assert found["gender"] == ("female",)
    assert found["prompt_attr"] == ("short",)
    assert "prompt_style" not in found  # it has no value
    assert "subject" not in found
    assert list(found) == sorted(found)


def test_a_tag_of_the_case_goes_first(make_case):
    case = make_case(category="human", tags={"category": ("person", "adult")})
    assert case_tags(case)["category"] == ("person", "adult")


def test_edits_have_scenario_corruption_and_editor(make_case):
    file = File(path="a.png", sha256="a" * 64)
    edit = Edit(
        source="x", original=file, edited=file, corruption="low", scenario=("a", "b"), editor="e"
    )
    found = case_tags(make_case(kind="edit_restoration", people=(), edit=edit))
    assert (found["corruption"], found["editor"]) == (("low",), ("e",))
    assert found["scenario"] == ("a", "b")


def test_two_people_give_each_value_once(tmp_path):
    for case in load_suite("tiny-multi", data_root=tmp_path).cases:
        assert len(case_tags(case)["expression"]) == 2
        assert case_tags(case)["kind"] == ("multi_id",)
