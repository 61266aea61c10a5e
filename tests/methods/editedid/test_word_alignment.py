import json

import pytest
import torch

from idbench.methods.editedid.word_alignment import (
    PromptError,
    Tokens,
    align_tokens,
    phrase_tokens,
    replacement_map,
    word_tokens,
    word_windows,
)


@pytest.fixture(scope="module")
def golden(golden_file):
    return json.loads(golden_file("editedid_seq_aligner.json").read_text())


@pytest.fixture(scope="module")
def tokens_of(golden):
    """Tokenised prompts, from the ids that the golden file states."""
    ids = {}
    for kind in ("refinement", "triple", "replacement"):
        for entry in golden[kind]:
            ids |= dict(zip(entry["prompts"], entry["ids"], strict=True))
    table = golden["token_table"]
    return lambda prompt: Tokens(
        prompt, tuple(ids[prompt]), tuple(table[str(i)] for i in ids[prompt][1:-1])
    )


@pytest.mark.golden
def test_refinement_mappers(golden):
    for entry in golden["refinement"]:
        mapper, alphas = align_tokens(*entry["ids"])
        assert mapper.tolist() == entry["mapper"]
        assert alphas.tolist() == entry["alphas"]


@pytest.mark.golden
def test_three_prompts_align_the_first_with_the_last(golden):
    for entry in golden["triple"]:
        mapper, alphas = align_tokens(entry["ids"][0], entry["ids"][-1])
        assert mapper[None].tolist() == entry["mapper"]
        assert alphas[None].tolist() == entry["alphas"]


@pytest.mark.golden
def test_replacement_maps(golden, tokens_of):
    for entry in golden["replacement"]:
        mapper = replacement_map(*map(tokens_of, entry["prompts"]))
        found = [[*where, mapper[*where].item()] for where in mapper.nonzero().tolist()]
        assert found == entry["nonzero"]


@pytest.mark.golden
def test_word_indices(golden, tokens_of):
    for entry in golden["word_inds"]:
        assert word_tokens(tokens_of(entry["prompt"]), entry["word"]) == entry["inds"]


@pytest.mark.golden
def test_word_windows(golden, tokens_of):
    for entry in golden["alpha_time_words"]:
        spec = entry["spec"]
        if isinstance(spec, dict):
            spec = {k: tuple(v) if isinstance(v, list) else v for k, v in spec.items()}
        gate = word_windows(tokens_of(entry["prompts"][-1]), entry["num_steps"], spec)
        assert list(gate[:, None, None, None].shape) == entry["shape"]
        closed = [[(row == 0).nonzero().flatten().tolist()] for row in gate]
        assert closed == entry["zero_token_inds"]


def test_window_counts_n_plus_one_steps():
    # q = .8 and N = 6: int(.8 * 7) = 5 of 7 rows.
    gate = word_windows(Tokens("face", (0, 1, 2), ("face",)), 6, 0.8)
    assert gate[:, 1].tolist() == [1, 1, 1, 1, 1, 0, 0]


CUP = Tokens(
    "a red cup on a red table", tuple(range(9)), ("a", "red", "cup", "on", "a", "red", "table")
)


def test_a_phrase_is_its_own_occurrence_of_a_word():
    assert word_tokens(CUP, "red") == [2, 6]
    assert phrase_tokens(CUP, "red table") == [6, 7]


def test_a_missing_phrase_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="'blue cup' must be literal words"):
        phrase_tokens(CUP, "blue cup")


def test_a_phrase_past_the_text_encoder_is_an_error():
    words = ("word",) * 90
    with pytest.raises(ValueError, match="shorten the prompt"):
        phrase_tokens(Tokens(" ".join(words) + " hat", tuple(range(93)), (*words, "hat")), "hat")


def test_a_phrase_that_the_text_encoder_cuts_is_an_error():
    """75 pieces remain of a longer prompt; the phrase begins before the cut and ends after it."""
    words = [f"w{i}" for i in range(80)]
    cut = Tokens(" ".join(words), tuple(range(77)), tuple(words[:75]))
    assert phrase_tokens(cut, "w72 w73") == [73, 74]
    with pytest.raises(PromptError, match="shorten the prompt"):
        phrase_tokens(cut, "w73 w74 w75")
    with pytest.raises(PromptError, match="shorten the prompt"):
        phrase_tokens(cut, "w74")


def test_unequal_replacement_is_refused():
    with pytest.raises(ValueError, match="equally many words"):
        replacement_map(CUP, Tokens("a cup", (0, 1, 2, 3), ("a", "cup")))


def test_identical_prompts_map_to_themselves():
    mapper, alphas = align_tokens(CUP.ids, CUP.ids)
    assert torch.equal(mapper, torch.arange(77))
    assert alphas.min() == 1
