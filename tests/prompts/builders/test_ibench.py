"""The five IBench suites: counts, substitution, duplicates, and refusal of partial copies."""

import json
from collections import Counter

import pytest

from idbench.prompts.builders.collecting import (
    BuildOptions,
    Collector,
    PartialSourceError,
)
from idbench.prompts.builders.ibench import (
    build,
    build_from,
    fill,
    gender_conflict,
    named_gender,
    read_identities,
    vbench_templates,
)
from idbench.prompts.sources import DriftError
from idbench.prompts.strict import ManifestError


@pytest.fixture
def build_copy(ibench, register, info):
    """Builds from the fake copy, whose pictures are not those of the lock."""

    def make(name, **options):
        root = register("ibench", ibench)
        return build_from(Collector("ibench", root), info(name), root, BuildOptions(**options))

    return make


@pytest.mark.parametrize(
    ("name", "count", "distinct"),
    [
        ("ibench-chineseid-long", 100 * 41, 99 * 41),
        ("ibench-chineseid-action", 100 * 60, 99 * 55),
        ("ibench-unsplash50-short", 49 * 21, 49 * 21),
        ("ibench-generateid-typemovie", 99 * 80, 99 * 80),
        ("ibench-mystyle-short", 42 * 45, 42 * 45),
    ],
)
def test_counts_of_a_complete_copy(build_copy, info, name, count, distinct):
    suite = build_copy(name)
    assert (suite.count, suite.distinct) == (count, distinct)
    assert (info(name).cases, info(name).distinct) == (count, distinct)
    assert suite.name == name
    assert suite.without_id == "per_case"


def test_the_printed_counts():
    assert (100 * 41, 99 * 41, 99 * 55, 49 * 21, 99 * 80, 42 * 45) == (
        4100,
        4059,
        5445,
        1029,
        7920,
        1890,
    )


def test_duplicates_are_weights_and_never_two_times_two(build_copy):
    suite = build_copy("ibench-chineseid-action")
    weights = Counter(case.multiplicity for case in suite.cases)
    # 50 prompts once and 5 twice; 98 pictures once and 1 twice
    assert weights == {1: 98 * 50, 2: 98 * 5 + 50, 4: 5}
    assert build_copy("ibench-chineseid-action", variants={"duplicates": "drop"}).count == 5445


def test_the_official_join_multiplies_sixty_rows_to_seventy():
    # nested loops over (id, prompt) emit n * n rows for a prompt that occurs n times
    repeats = Counter(template.text for template in vbench_templates("human_action_longer"))
    assert sum(repeats.values()) == 60
    assert sum(n * n for n in repeats.values()) == 70


def test_every_long_prompt_exceeds_the_window_of_clip():
    lists = (vbench_templates("human_longer"), vbench_templates("human_action_longer"))
    assert [len(entries) for entries in lists] == [41, 60]
    words = [len(template.text.split()) for entries in lists for template in entries]
    assert (min(words), max(words)) == (82, 129)


def test_word_search_gives_the_counts_of_the_page():
    found = Counter(named_gender(t.text) for t in vbench_templates("human_longer"))
    assert found == {"female": 11, "male": 18, "both": 2, "neither": 10}
    actions = Counter(named_gender(t.text) for t in vbench_templates("human_action_longer"))
    assert actions["neither"] == 51


def test_gender_conflict_needs_an_identity_of_the_other_gender():
    assert gender_conflict("A man walks.", "female")
    assert not gender_conflict("A man walks.", "male")
    assert not gender_conflict("A man walks.", "unknown")
    assert not gender_conflict("A man and a woman walk.", "female")


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("[portrait,] a {person} wearing a spacesuit", "portrait, a woman wearing a spacesuit"),
        ("[portrait,]latte art in a cup", "portrait,latte art in a cup"),
        ("a <class word> in the snow", "a woman in the snow"),
        ("portrait, a person wearing headphones", "portrait, a person wearing headphones"),
    ],
)
def test_substitution(template, prompt):
    assert fill(template, "woman") == prompt


def test_the_class_word_follows_the_listed_gender(build_copy):
    suite = build_copy("ibench-mystyle-short")
    for case in suite.cases:
        reference = case.references[0]
        word = {"female": "woman", "male": "man", "unknown": "person"}[reference.gender]
        assert f"a {word} " in case.prompt
        assert "Vincent Van" not in case.prompt or "Vincent Van Gogh" in case.prompt


def test_the_neutral_variant_has_its_own_name_and_ids(build_copy):
    plain = build_copy("ibench-unsplash50-short")
    neutral = build_copy("ibench-unsplash50-short", variants={"class_word": "neutral"})
    assert neutral.name == "ibench-unsplash50-short+class_word-neutral"
    assert neutral.variants["class_word"] == "neutral"
    assert not any(" woman" in case.prompt for case in neutral.cases)
    assert not {c.case_id for c in plain.cases} & {c.case_id for c in neutral.cases}


def test_prompt_repair_joins_the_wrapped_prompt(build_copy):
    suite = build_copy("ibench-unsplash50-short", variants={"prompt_repair": "on"})
    assert suite.count == 49 * 20
    joined = [case.prompt for case in suite.cases if "influence" in case.prompt]
    assert joined
    assert all(prompt.startswith("portrait, a ") for prompt in joined)


def test_prompt_repair_restores_the_cut_prompt_from_vbench(build_copy, register, tmp_path):
    cut = next(t.text for t in vbench_templates("human_longer") if t.num == 2)
    folder = tmp_path / "vbench"
    path = folder / "prompts/augmented_prompts/gpt_enhanced_prompts/prompts_per_category_longer"
    path.mkdir(parents=True)
    (path / "human_longer.txt").write_text(f"Another line.\n{cut}t and whole.\n")
    with pytest.raises(FileNotFoundError, match="idbench data fetch vbench-prompts"):
        build_copy("ibench-chineseid-long", variants={"prompt_repair": "on"})
    register("vbench-prompts", folder)
    suite = build_copy("ibench-chineseid-long", variants={"prompt_repair": "on"})
    assert suite.count == 4100
    assert {c.prompt for c in suite.cases if "cinnamon rolls" in c.prompt} >= {f"{cut}t and whole."}


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ({"colour": "red"}, "has no variant 'colour'; known: class_word, duplicates"),
        ({"duplicates": "maybe"}, "variant duplicates must be keep or drop, got 'maybe'"),
    ],
)
def test_unknown_variants_are_refused(build_copy, variants, message):
    with pytest.raises(ValueError, match=message):
        build_copy("ibench-mystyle-short", variants=variants)


def test_a_partial_copy_is_refused_or_renamed(build_copy, ibench):
    (ibench / "data/images/mystyleid/0 (2).jpg").unlink()
    with pytest.raises(PartialSourceError, match=r"1 of 42 files .*0 \(2\).jpg.*--allow-partial"):
        build_copy("ibench-mystyle-short")
    suite = build_copy("ibench-mystyle-short", allow_partial=True)
    assert suite.name == "ibench-mystyle-short+partial"
    assert suite.count == 41 * 45


def test_a_picture_that_differs_from_the_lock_is_drift(ibench, register, info):
    root = register("ibench", ibench)
    with pytest.raises(DriftError, match="but the lock has"):
        build(info("ibench-chineseid-long"), root, BuildOptions())


def test_names_in_the_other_normal_form_are_found(ibench, register, info, tmp_path):
    import unicodedata

    name = "data/images/mystyleid/Jos\u00e9 (1).jpg"
    other = unicodedata.normalize("NFD", name)
    (ibench / other).write_bytes(b"x")
    path = ibench / "data/images/mystyleid_images.json"
    row = {"num": 0, "id": f"C:\\data\\IBench\\{name}".replace("/", "\\"), "gender": "male"}
    path.write_text(json.dumps({"datas": [row]}))
    root = register("ibench", ibench)
    options = BuildOptions()
    suite = build_from(Collector("ibench", root), info("ibench-mystyle-short"), root, options)
    assert suite.count == 45
    assert suite.cases[0].references[0].path == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "expected an object"),
        ('{"datas": {}}', "key 'datas': expected a list"),
        ('{"datas": [{"num": 0, "id": "x.jpg", "gender": "male"}]}', r"datas\[0\], key 'id'"),
        (
            '{"datas": [{"num": 0, "id": "/a/data/images/../../b.jpg", "gender": "male"}]}',
            r"datas\[0\], key 'id'",
        ),
        (
            '{"datas": [{"num": 0, "id": "data/images/x.jpg", "gender": "m"}]}',
            r"datas\[0\], key 'gender': expected female \| male \| unknown",
        ),
        (
            '{"datas": [{"num": 0, "id": "data/images/x.jpg", "gender": "male", "age": 3}]}',
            r"datas\[0\]: unknown key 'age'",
        ),
        ('{"datas": [], "tags": {"category": "video"}}', "key 'tags.category'"),
    ],
)
def test_a_malformed_identity_list_names_row_and_key(text, message):
    with pytest.raises(ManifestError, match=message):
        read_identities(text, "list.json")
