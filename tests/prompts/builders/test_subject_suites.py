"""dreambench-plus, msbench and the FlexIP suites: counts, combinations, difficulty, captions."""

from collections import Counter

import pytest

from idbench.prompts.builders import dreambench_plus, flexip
from idbench.prompts.builders import msbench as msbench_builder
from idbench.prompts.builders.collecting import BuildOptions, PartialSourceError
from idbench.prompts.builders.dreambench_plus import collection_id, difficulty
from idbench.prompts.builders.msbench import combination_types, groups, subjects
from idbench.prompts.strict import ManifestError

PARTIAL = BuildOptions(allow_partial=True)


def test_dreambench_has_150_times_9_cases(make_dreambench, register, info):
    root = register("dreambench_plus", make_dreambench(150))
    suite = dreambench_plus.build(info("dreambench-plus"), root, BuildOptions())
    assert (suite.count, suite.distinct) == (1350, 1350)
    split = Counter(case.difficulty for case in suite.cases)
    assert split == {"photorealistic": 600, "style_transfer": 450, "imaginative": 300}
    case = next(case for case in suite.cases if case.alias.endswith("small_thing_1-8"))
    assert case.alias == "live_subject_human_01_small_thing_1-8"
    assert (case.subject, case.prompt) == ("Small Thing 1", "prompt 1 8")
    assert case.references[0].role == "subject"


def test_four_subjects_are_a_partial_suite(make_dreambench, register, info):
    root = register("dreambench_plus", make_dreambench(4))
    with pytest.raises(PartialSourceError, match="146 of 150"):
        dreambench_plus.build(info("dreambench-plus"), root, BuildOptions())
    suite = dreambench_plus.build(info("dreambench-plus"), root, PARTIAL)
    assert (suite.name, suite.count) == ("dreambench-plus+partial", 36)


def test_an_image_without_caption_is_named(make_dreambench, register, info):
    source = make_dreambench(150)
    (source / "captions" / "real" / "animal" / "00.txt").unlink()
    root = register("dreambench_plus", source)
    with pytest.raises(PartialSourceError, match=r"1 of 150 .*images/real/animal/00"):
        dreambench_plus.build(info("dreambench-plus"), root, BuildOptions())


def test_a_caption_file_with_another_number_of_lines_is_named(make_dreambench, register, info):
    source = make_dreambench(4)
    (source / "captions" / "real" / "human" / "01.txt").write_text("Thing\na\nb\n")
    root = register("dreambench_plus", source)
    with pytest.raises(ManifestError, match=r"human/01.txt: expected the subject and 9 prompts"):
        dreambench_plus.build(info("dreambench-plus"), root, PARTIAL)


def test_collection_ids():
    assert collection_id("animal", "00", "kitten") == "live_subject_animal_00_kitten"
    assert collection_id("object", "07", "Red Mug") == "object_07_red_mug"
    assert [difficulty(i) for i in (0, 3, 4, 6, 7, 8, 9)] == [
        "photorealistic",
        "photorealistic",
        "style_transfer",
        "style_transfer",
        "imaginative",
        "imaginative",
        None,
    ]


def test_msbench_combinations_reproduce_from_the_lists():
    counts = Counter(subject.category for subject in subjects())
    assert counts == {
        "living": 10,
        "object": 10,
        "scene": 4,
        "upwearing": 5,
        "midwearing": 6,
        "downwearing": 3,
        "wholewearing": 2,
    }
    found = [
        (len(list(groups(kind, subjects()))), len(kind.prompts)) for kind in combination_types()
    ]
    assert [combos for combos, _ in found] == [
        45, 100, 45, 50, 60, 20, 18, 40, 40, 120, 120, 400, 90
    ]  # fmt: skip
    assert sum(combos for combos, _ in found) == 1148
    assert sum(combos * prompts for combos, prompts in found) == 4488 == 668 * 6 + 480


def test_msbench_builds_4488_cases_with_boxes(msbench, register, info):
    suite = msbench_builder.build(info("msbench"), register("msbench", msbench), BuildOptions())
    assert (suite.count, suite.distinct) == (4488, 4488)
    for case in suite.cases[::50]:
        assert "{" not in case.prompt
        assert len(case.people) == len(case.references) == case.combination.count("_") + 1
        assert all(person.box for person in case.people)
        assert len({reference.sha256 for reference in case.references}) == len(case.references)
    combinations = {
        (case.combination, tuple(ref.ref_id for ref in case.references)) for case in suite.cases
    }
    assert len(combinations) == 1148


def test_a_missing_subject_takes_its_combinations_along(msbench, register, info):
    (msbench / "msbench/downwearing/jeans.png").unlink()
    root = register("msbench", msbench)
    with pytest.raises(PartialSourceError, match=r"1 of 40 .*jeans.png"):
        msbench_builder.build(info("msbench"), root, BuildOptions())
    suite = msbench_builder.build(info("msbench"), root, PARTIAL)
    # jeans stood in 6 of 18 and in 30 of 90 combinations, six prompts each
    assert suite.count == 4488 - 6 * (6 + 30)


@pytest.mark.parametrize(
    ("name", "subjects_", "units"),
    [
        ("flexip187", 187, 16_830),
        ("flexip186", 186, 16_740),
        ("flexip150", 150, 13_500),
        ("flexip190", 190, 17_100),
    ],
)
def test_flexip_counts(make_dreambench, msbench, register, info, name, subjects_, units):
    root = register("dreambench_plus", make_dreambench(150))
    register("msbench", msbench)
    suite = flexip.build(info(name), root, BuildOptions())
    assert (suite.count, suite.units) == (subjects_ * 9, units)
    assert (info(name).cases, info(name).units) == (suite.count, units)
    assert len({case.references[0].ref_id for case in suite.cases}) == subjects_
    split = Counter(case.difficulty for case in suite.cases)
    assert split["photorealistic"] == 4 * subjects_
    assert split["style_transfer"] == 3 * subjects_


def test_what_flexip_leaves_out():
    without = {
        name: {entry.category for entry in subjects()}
        - {entry.category for entry in flexip.chosen_subjects(name)}
        for name in ("flexip187", "flexip186", "flexip190")
    }
    assert without == {"flexip187": {"downwearing"}, "flexip186": {"scene"}, "flexip190": set()}
