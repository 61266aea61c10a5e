"""Base forms of English words: by suffix rules, or by simplemma's dictionary where it has them."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

import simplemma

Lemmatizer = Literal["rules", "simplemma"]

SUFFIXES = ("ing", "ed", "es", "s")
MIN_STEM = 2


def without_possessive(token: str) -> str:
    """The token without a closing 's or apostrophe."""
    return token.removesuffix("'s").removesuffix("'")


def by_rules(token: str) -> set[str]:
    """What may be the base form of a token whose last suffix is taken off.

    "smiling" gives smil, smile; "running" run; "lying" lie; "cried" cry. Most are no words, which
    does no harm where they are looked up in a list of words; some are other words ("hoping" gives
    hop), which does.
    """
    found = set()
    for suffix in SUFFIXES:
        stem = token.removesuffix(suffix)
        if stem == token or len(stem) < MIN_STEM:
            continue
        found |= {stem, stem + "e"}
        if stem[-1] == stem[-2]:
            found.add(stem[:-1])
        if suffix == "ing" and stem[-1] == "y":
            found.add(stem[:-1] + "ie")
        if suffix in ("ed", "es") and stem[-1] == "i":
            found.add(stem[:-1] + "y")
    return found


@lru_cache(maxsize=65536)
def by_dictionary(token: str) -> str:
    """The base form in simplemma's English dictionary; the token where it has no other."""
    return simplemma.lemmatize(token, lang="en", greedy=False) if token else token


def base_forms(
    token: str, irregular: Mapping[str, str], lemmatizer: Lemmatizer = "rules"
) -> frozenset[str]:
    """The token itself and what may be its base form, for look-up in a list of words.

    Args:
        token: Lower case, with a plain apostrophe.
        irregular: Base forms that neither rules nor dictionary are asked for.
        lemmatizer: "rules" takes all forms of `by_rules`. "simplemma" takes the dictionary's
            instead where that is another word; nouns such as "wrestling" are their own base form
            there, and the rules find the verb.
    """
    plain = without_possessive(token)
    found = {token, plain}
    if plain in irregular:
        return frozenset(found | {irregular[plain]})
    known = by_dictionary(plain) if lemmatizer == "simplemma" else plain
    return frozenset(found | (by_rules(plain) if known == plain else {known}))
