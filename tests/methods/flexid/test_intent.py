import json

import pytest

from idbench.methods.flexid.intent import IntentParser, normalise
from idbench.methods.flexid.lemmas import base_forms, regular_forms
from idbench.methods.flexid.lexicon import CATEGORIES, load_lexicon


@pytest.fixture(scope="module")
def parse():
    return IntentParser(load_lexicon())


@pytest.fixture(scope="module")
def labelled(golden_file):
    return json.loads(golden_file("flexid_cag.json").read_text())["prompts"]


@pytest.mark.golden
@pytest.mark.parametrize("lemmatizer", ["rules", "simplemma"])
def test_labelled_prompts_have_their_label(labelled, lemmatizer):
    parse = IntentParser(load_lexicon(), lemmatizer=lemmatizer)
    assert [(p["prompt"], parse(p["prompt"]).value) for p in labelled] == [
        (p["prompt"], p["intent"]) for p in labelled
    ]


@pytest.mark.golden
def test_case_and_width_of_punctuation_do_not_matter(labelled, parse):
    wide = str.maketrans(",.:;!?()'", "\uff0c\uff0e\uff1a\uff1b\uff01\uff1f\uff08\uff09\u2019")
    for entry in labelled:
        expected = parse(entry["prompt"])
        for other in (entry["prompt"].upper(), entry["prompt"].translate(wide)):
            assert parse(other) == expected


@pytest.mark.parametrize(
    ("prompt", "value", "hits"),
    [
        ("a man in a library", 0, []),
        ("a man smiling", 1, [("smiling", "smile", "expression", False)]),
        ("he is not smiling", 0, [("smiling", "smile", "expression", True)]),
        ("\u5979\u6ca1\u6709\u7b11", 0, [("\u7b11", "\u7b11", "expression", True)]),
        ("\u5979\u5728\u5954\u8dd1", 1, [("\u5954\u8dd1", "\u5954\u8dd1", "pose", False)]),
        ("a non-smiling man", 0, [("non-smiling", "smile", "expression", True)]),
        ("not sad but laughing out loud", 1, [
            ("sad", "sad", "expression", True),
            ("laughing out loud", "laugh out loud", "expression", False),
        ]),
        ("never, he runs", 1, [("runs", "run", "pose", False)]),
        ("no one in the street runs", 1, [("runs", "run", "pose", False)]),
        ("running shoes", 0, []),
        ("3d\u6e32\u67d3", 1, [("3d\u6e32\u67d3", "3d\u6e32\u67d3", "style", False)]),
    ],
)  # fmt: skip
def test_the_decision_is_explained(parse, prompt, value, hits):
    found = parse(prompt)
    assert found.value == value
    assert [(h.surface, h.lemma, h.category, h.negated) for h in found.hits] == hits
    for hit in found.hits:
        assert normalise(prompt)[slice(*hit.span)] == hit.surface


@pytest.mark.parametrize(
    ("prompt", "value"),
    [
        ("waves on the beach", 0),
        ("waving at us", 1),
        ("he flew over us", 1),
        ("a long walk", 0),
        ("she walks home", 1),
        ("stylish hairstyle", 0),
        ("her dog's smile", 1),
        ("swinging from a rope", 1),
        ("playing the guitar", 1),
        ("hoping for rain", 0),
        ("famous sites", 0),
        ("a torn map", 0),
        ("spinning around", 1),
        ("the ball he caught", 1),
    ],
)
def test_homographs_count_where_they_are_verbs(parse, prompt, value):
    assert parse(prompt).value == value


def test_the_dictionary_tells_words_apart_that_the_rules_confuse():
    # hoping: of hope; the rules also take the suffix off a doubled or dropped letter
    assert "hop" in base_forms("hoping", {}, "rules")
    assert "hop" not in base_forms("hoping", {}, "simplemma")
    assert "hope" in base_forms("hoping", {}, "simplemma")
    assert "wrestle" in base_forms("wrestling", {}, "simplemma")
    assert "excited" in base_forms("excited", {}, "simplemma")


@pytest.mark.parametrize(
    ("base", "forms"),
    [
        ("hop", {"hops", "hopped", "hopping"}),
        ("hope", {"hopes", "hoped", "hoping"}),
        ("cry", {"cries", "cried", "crying"}),
        ("play", {"plays", "played", "playing"}),
        ("kiss", {"kisses", "kissed", "kissing"}),
        ("lie", {"lies", "lied", "lying"}),
        ("tiptoe", {"tiptoes", "tiptoed", "tiptoeing"}),
        ("bow", {"bows", "bowed", "bowing"}),
        ("lean", {"leans", "leaned", "leaning"}),
        ("gallop", {"gallops", "galloped", "galloping", "gallopped", "gallopping"}),
    ],
)
def test_regular_forms_are_those_of_english_spelling(base, forms):
    assert regular_forms(base) == forms


@pytest.mark.parametrize(
    ("token", "form"),
    [
        ("smiling", "smile"),
        ("running", "run"),
        ("lying", "lie"),
        ("cried", "cry"),
        ("claps", "clap"),
        ("cat's", "cat"),
        ("smileing", "smile"),
        ("shied", "shy"),
    ],
)
@pytest.mark.parametrize("lemmatizer", ["rules", "simplemma"])
def test_base_forms(token, form, lemmatizer):
    assert form in base_forms(token, {}, lemmatizer)


def test_graded_intent_counts_categories():
    parse = IntentParser(load_lexicon(), mode="graded")
    assert parse("a man").value == 0
    assert parse("smiling and laughing").value == pytest.approx(1 / 3)
    assert parse("smiling and running").value == pytest.approx(2 / 3)
    assert parse("smiling, running, oil painting, low angle").value == 1
    assert parse("smiling, running, oil painting").categories == ("expression", "pose", "style")


def test_force_overrides_the_parser(parse):
    forced = parse("a man smiling", force=0)
    assert (forced.value, forced.forced) == (0, True)
    assert len(forced.hits) == 1
    assert parse("a man", force=1).value == 1


def test_categories_and_extra_words():
    without = [c for c in CATEGORIES if c != "expression"]
    assert IntentParser(load_lexicon(categories=without))("a man smiling").value == 0
    extra = IntentParser(load_lexicon(extra_keywords={"style": ["tin toy", "\u94c1\u76ae"]}))
    assert extra("a TIN toy").value == 1
    assert extra("\u94c1\u76ae\u73a9\u5177").hits[0].category == "style"
    with pytest.raises(ValueError, match=r"unknown categories \['mood'\]; allowed: expression"):
        load_lexicon(extra_keywords={"mood": ["x"]})


def test_another_dictionary_must_be_one(tmp_path):
    path = tmp_path / "words.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"words.json: not an intent dictionary, no key 'version'"):
        load_lexicon(path)


def test_punctuation_alone_is_no_word(parse):
    assert parse("' - \" \n smile").value == 1
    assert parse("").value == 0
