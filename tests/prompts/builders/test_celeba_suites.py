"""fastcomposer-single and the DynamicID suites from a miniature CelebA."""

from collections import Counter
from itertools import islice

import pytest

from idbench.prompts.builders import dynamicid, fastcomposer
from idbench.prompts.builders.celeba import dynamicid_people, image_folder, read_celeba
from idbench.prompts.builders.collecting import BuildOptions, PartialSourceError
from idbench.prompts.builders.dynamicid import (
    COMBINATIONS,
    combination,
    multi_prompt,
    single_index,
)
from idbench.prompts.strict import ManifestError

PARTIAL = BuildOptions(allow_partial=True)


def test_the_printed_formulas(info):
    assert info("dynamicid-single").cases == 500 * 20 == 10_000
    assert info("dynamicid-single-full").cases == 500 * 20 * 28 == 280_000
    assert info("dynamicid-multi").cases == 250 * 20 == 5_000
    assert info("dynamicid-multi-3").cases == 166 * 20 == 3_320
    assert info("fastcomposer-single").cases == 15 * 40 == 600
    assert info("fastcomposer-single").units == 2_400
    assert 15 * 14 // 2 == 105  # pairs of the multi-subject protocol, for which there is no suite


def test_the_cycle_is_balanced():
    per_identity = [{single_index(i, p) for p in range(20)} for i in range(500)]
    assert {len(seen) for seen in per_identity} == {20}
    for prompt in range(20):
        seen = Counter(single_index(i, prompt) for i in range(500))
        assert set(seen) == set(range(COMBINATIONS))
        assert set(seen.values()) == {17, 18}


def test_every_combination_is_another_one():
    pairs = {(combination(i).expression, combination(i).orientation) for i in range(28)}
    assert len(pairs) == 28
    assert combination(0).said() == "a neutral expression in a front view"
    assert combination(2).said() == "an angry expression in a front view"
    assert combination(6 + 14).said() == "an afraid expression facing up"
    assert {combination(i).pose_axis for i in range(14)} == {"yaw"}
    assert {combination(i).pose_axis for i in range(14, 28)} == {"pitch"}


def test_the_multi_prompt_is_the_example_of_the_paper():
    # neutral, side = 0 + 7; sad, front = 5
    text = multi_prompt([combination(7), combination(5)], "wearing headphones", style=False)
    assert text == (
        "The person on the left has a neutral expression in a side view, and the person on the "
        "right has a sad expression in a front view, both wearing headphones."
    )


def test_styles_stand_without_both_and_triples_name_the_middle():
    text = multi_prompt([combination(i) for i in (0, 9, 18)], "a painting", style=True)
    assert text.endswith(", a painting.")
    assert "the person in the middle has" in text
    assert ", all three eating lunch." in multi_prompt(
        [combination(i) for i in (0, 9, 18)], "eating lunch", style=False
    )


@pytest.mark.parametrize("layout", ["official", "torchvision"])
def test_the_index_reads_every_layout(make_celeba, layout):
    celeba = read_celeba(make_celeba(40, layout=layout))
    assert len(celeba.files) == 40 + 15 - 1  # identity 1 is in both
    assert all(len(names) == 3 for names in celeba.files.values())


def test_people_are_chosen_by_text_alone(make_celeba):
    celeba = read_celeba(make_celeba(40))
    people = dict(dynamicid_people(celeba))
    assert all(identity % 10 for identity in people)  # every tenth wears glasses everywhere
    assert list(people) != sorted(people)
    for identity, name in people.items():
        assert name in celeba.files[identity][1:]  # the first of each is blurry


def test_crops(make_celeba):
    root = make_celeba(3)
    assert image_folder(root, "auto") == "Img/img_align_celeba"
    assert image_folder(root, "wild") is None
    (root / "Img" / "img_celeba").mkdir()
    assert image_folder(root, "auto") == "Img/img_celeba"
    assert image_folder(root, "align") == "Img/img_align_celeba"


def test_a_small_celeba_gives_a_partial_suite_only(make_celeba, register, info):
    root = register("celeba", make_celeba(12))
    with pytest.raises(PartialSourceError, match="of 500 files of dynamicid-single are missing"):
        dynamicid.build_single(info("dynamicid-single"), root, BuildOptions())
    suite = dynamicid.build_single(info("dynamicid-single"), root, PARTIAL)
    people = len(list(dynamicid_people(read_celeba(root.parent / "celeba"))))
    assert suite.name == "dynamicid-single+partial"
    assert suite.count == suite.distinct == people * 20
    full = dynamicid.build_single(info("dynamicid-single-full"), root, PARTIAL)
    assert full.count == people * 20 * 28
    multi = dynamicid.build_multi(info("dynamicid-multi"), root, PARTIAL)
    assert multi.count == people // 2 * 20
    triples = dynamicid.build_multi(info("dynamicid-multi-3"), root, PARTIAL)
    assert triples.count == people // 3 * 20
    for case in multi.cases:
        left, right = case.people
        assert left.expression != right.expression
        assert left.orientation != right.orientation
        assert case.references[0].ref_id != case.references[1].ref_id
    pairs = {tuple(ref.ref_id for ref in case.references) for case in multi.cases}
    flat = [ref_id for pair in pairs for ref_id in pair]
    assert len(flat) == len(set(flat))  # disjoint


def test_a_large_enough_celeba_gives_the_exact_counts(make_celeba, register, info):
    root = register("celeba", make_celeba(560))
    single = dynamicid.build_single(info("dynamicid-single"), root, BuildOptions())
    multi = dynamicid.build_multi(info("dynamicid-multi"), root, BuildOptions())
    triples = dynamicid.build_multi(info("dynamicid-multi-3"), root, BuildOptions())
    assert (single.count, multi.count, triples.count) == (10_000, 5_000, 3_320)
    assert single.variants == {"crop": "align"}
    seen = Counter((case.people[0].expression, case.people[0].orientation) for case in single.cases)
    assert len(seen) == 28
    assert max(seen.values()) - min(seen.values()) <= 20


def test_fastcomposer_counts_and_reference(make_celeba, register, info):
    source = make_celeba(40)
    root = register("celeba", source)
    suite = fastcomposer.build(info("fastcomposer-single"), root, BuildOptions())
    assert (suite.count, suite.units) == (600, 2400)
    celeba = read_celeba(source)
    used = {case.references[0].path.rsplit("/", 1)[-1] for case in suite.cases}
    assert celeba.files[181][0] in used
    words = Counter(case.references[0].class_word for case in suite.cases)
    assert words == {"woman": 9 * 40, "man": 6 * 40}
    assert Counter(case.category for case in suite.cases) == dict.fromkeys(
        ("accessory", "style", "action", "context"), 150
    )
    assert not any("  " in case.prompt or " img" in case.prompt for case in suite.cases)


def test_fastcomposer_refuses_when_the_attribute_contradicts(make_celeba, register, info):
    source = make_celeba(40)
    path = source / "Anno" / "list_attr_celeba.txt"
    first = read_celeba(source).files[181][0]
    text = path.read_text().replace(f"{first}  1 -1 1 ", f"{first}  1 -1 -1 ")
    path.write_text(text)
    root = register("celeba", source)
    with pytest.raises(ValueError, match=r"000181 \(man"):
        fastcomposer.build(info("fastcomposer-single"), root, BuildOptions())


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "identity_CelebA.txt",
            "000002.jpg 1",
            "000002.jpg",
            "line 2: expected '<file> <identity>'",
        ),
        ("identity_CelebA.txt", "000002.jpg 1", "../x.jpg 1", "line 2: expected"),
        ("identity_CelebA.txt", "000002.jpg 1", "999999.jpg 1", "line 2: 999999.jpg has no"),
        (
            "list_attr_celeba.txt",
            "000002.jpg  -1",
            "000002.jpg  2",
            "line 4: expected a file and 5",
        ),
        ("list_attr_celeba.txt", "Blurry ", "", "expected the count, then a line with"),
        ("list_attr_celeba.txt", "000001.jpg  1 -1 -1  1 -1\n", "", "the first line says"),
    ],
)
def test_a_bad_line_is_named(make_celeba, file, old, new, message):
    root = make_celeba(3)
    path = root / "Anno" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ManifestError, match=message):
        read_celeba(root)


def test_the_choice_does_not_depend_on_the_order_of_lines(make_celeba):
    root = make_celeba(40)
    before = list(islice(dynamicid_people(read_celeba(root)), 10))
    path = root / "Anno" / "identity_CelebA.txt"
    path.write_text("\n".join(sorted(path.read_text().splitlines(), reverse=True)))
    assert list(islice(dynamicid_people(read_celeba(root)), 10)) == before
