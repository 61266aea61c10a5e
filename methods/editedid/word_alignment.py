"""Which token of one prompt answers to which of another; which tokens make up a word.

The rules are those of the aligner in the official repository, which is Prompt-to-Prompt's except
that three prompts are (original, intermediate, target) and only the first and last are aligned.
Token 0 is the start-of-text token, as in the ids that a CLIP tokenizer returns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MAX_TOKENS = 77

_MATCH, _MISMATCH = 1, -1
_LEFT, _UP, _DIAGONAL = range(3)

# A bound is the end of a window that starts at 0, or (start, end); fractions of the steps.
Bound = float | tuple[float, float]


class PromptError(ValueError):
    """Prompts and elements that do not belong together."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A tokenised prompt: the ids with both special tokens, and the text of each inner piece."""

    prompt: str
    ids: tuple[int, ...]
    pieces: tuple[str, ...]


def align_tokens(source: Sequence[int], target: Sequence[int]) -> tuple[Tensor, Tensor]:
    """For each target token the index of the source token that it keeps, or -1.

    Needleman-Wunsch with gap 0, match 1 and mismatch -1. Where paths tie, a gap in the source is
    preferred to one in the target, and both to a pair. Beyond the target's end tokens map to
    themselves.

    Returns:
        Source indices (77,) and a float mask (77,) that is 0 where there is none.
    """
    came_from = _alignment(source, target)
    mapper = torch.arange(MAX_TOKENS)
    row, column = len(source), len(target)
    while row or column:
        direction = came_from[row, column]
        row -= direction != _LEFT
        column -= direction != _UP
        if direction != _UP:
            mapper[column] = row if direction == _DIAGONAL else -1
    return mapper, (mapper >= 0).float()


def _alignment(source: Sequence[int], target: Sequence[int]) -> NDArray[np.int64]:
    score = np.zeros((len(source) + 1, len(target) + 1), dtype=np.int64)
    came_from = np.full_like(score, _LEFT)
    came_from[1:, 0] = _UP
    for row, ours in enumerate(source, 1):
        for column, theirs in enumerate(target, 1):
            options = (
                score[row, column - 1],
                score[row - 1, column],
                score[row - 1, column - 1] + (_MATCH if ours == theirs else _MISMATCH),
            )
            came_from[row, column] = int(np.argmax(options))  # the first of equals
            score[row, column] = max(options)
    return came_from


def tokens_of_words(tokens: Tokens) -> list[list[int]]:
    """For each space-separated word of the prompt the indices of its tokens, in order.

    Pieces are taken until they cover the characters of the word, so that "leopard-print" has
    three tokens.
    """
    words = tokens.prompt.split(" ")
    groups: list[list[int]] = [[] for _ in words]
    word, covered = 0, 0
    for index, piece in enumerate(tokens.pieces, 1):
        if word == len(words):
            break
        groups[word].append(index)
        covered += len(piece)
        if covered >= len(words[word]):
            word, covered = word + 1, 0
    return groups


def word_tokens(tokens: Tokens, word: str) -> list[int]:
    """Indices of the tokens of every occurrence of `word`; empty where it does not occur."""
    words = tokens.prompt.split(" ")
    groups = tokens_of_words(tokens)
    return [index for w, group in zip(words, groups, strict=True) if w == word for index in group]


def phrase_tokens(tokens: Tokens, phrase: str) -> list[int]:
    """Indices of the tokens of the first occurrence of `phrase` as consecutive words.

    Raises:
        PromptError: If the prompt does not hold the phrase, or holds it past the 77th token.
    """
    words, wanted = tokens.prompt.split(" "), phrase.split(" ")
    starts = [
        start
        for start in range(len(words) - len(wanted) + 1)
        if words[start : start + len(wanted)] == wanted
    ]
    if not starts:
        raise PromptError(
            f"element {phrase!r} must be literal words of the prompt {tokens.prompt!r}; "
            "name it as the prompt does"
        )
    groups = tokens_of_words(tokens)[starts[0] : starts[0] + len(wanted)]
    found = [index for group in groups for index in group]
    # A word at the last place but one may have been cut in the middle.
    if not all(groups) or found[-1] >= MAX_TOKENS - 2:
        raise PromptError(
            f"element {phrase!r} reaches token {MAX_TOKENS - 2} of the prompt, where the text "
            "encoder stops; shorten the prompt or name the element earlier"
        )
    return found


def replacement_map(source: Tokens, target: Tokens) -> Tensor:
    """Map (77 source, 77 target) for prompts that differ by whole words, one for one.

    A replaced word with another number of tokens spreads evenly over its target tokens.

    Raises:
        ValueError: If the prompts differ in their number of words.
    """
    words = source.prompt.split(" "), target.prompt.split(" ")
    if len(words[0]) != len(words[1]):
        raise ValueError(
            "a replacement needs prompts with equally many words, got "
            f"{len(words[0])} in {source.prompt!r} and {len(words[1])} in {target.prompt!r}"
        )
    changed = [
        (old, new)
        for old, new, before, after in zip(
            tokens_of_words(source), tokens_of_words(target), *words, strict=True
        )
        if before != after
    ]
    mapper = torch.zeros(MAX_TOKENS, MAX_TOKENS)
    row = column = 0
    while row < MAX_TOKENS and column < MAX_TOKENS:
        if changed and changed[0][0][0] == row:
            old, new = changed.pop(0)
            if len(old) == len(new):
                mapper[old, new] = 1.0
            else:
                mapper[np.ix_(old, new)] = 1.0 / len(new)
            row, column = row + len(old), column + len(new)
            continue
        # After the last replaced word the official code maps target tokens to themselves, even
        # where the replacement has shifted them.
        mapper[row if changed else column, column] = 1.0
        row, column = row + 1, column + 1
    return mapper


def word_windows(
    target: Tokens, num_steps: int, windows: Bound | Mapping[str, Bound] = 1.0
) -> Tensor:
    """Gate (num_steps + 1, 77) of 0 and 1: in which steps the maps of which token are swapped.

    Args:
        target: The target prompt.
        num_steps: N. Bounds are fractions of N + 1 steps, cut to whole ones, as in the code.
        windows: One bound for all tokens, or bounds by word; "default_" is that of the others and
            covers all steps where it is not given.
    """
    by_word = dict(windows) if isinstance(windows, Mapping) else {"default_": windows}
    gate = torch.zeros(num_steps + 1, MAX_TOKENS)
    _open(gate, by_word.pop("default_", 1.0), list(range(MAX_TOKENS)))
    for word, bound in by_word.items():
        _open(gate, bound, word_tokens(target, word))
    return gate


def _open(gate: Tensor, bound: Bound, tokens: list[int]) -> None:
    start, end = (0.0, bound) if isinstance(bound, int | float) else bound
    gate[:, tokens] = 0.0
    gate[int(start * len(gate)) : int(end * len(gate)), tokens] = 1.0
