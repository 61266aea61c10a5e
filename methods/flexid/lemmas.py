"""Base forms of English words: by suffix rules, or by simplemma's dictionary and spelling."""

import re
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


def regular_forms(base: str) -> set[str]:
    """The plural or third person, past and -ing form that English spelling makes of a base form.

    A short vowel ahead of the last consonant doubles it, "hop" and "hopping"; in words of several
    syllables both spellings are given, because that depends on the stress.
    """
    stems = {base}  # of -ed and -ing
    if re.search(r"[^aeiou]y$", base):
        plural, past = base[:-1] + "ies", {base[:-1] + "ied"}
    elif re.search(r"(?:s|x|z|ch|sh|o)$", base):
        plural, past = base + "es", {base + "ed"}
    else:
        plural, past = base + "s", {base + "ed"}
    if base.endswith("ie"):
        stems, past = {base[:-2] + "y"}, {base + "d"}
    elif base.endswith("e"):
        stems, past = {base if re.search(r"[eoy]e$", base) else base[:-1]}, {base + "d"}
    elif re.search(r"[^aeiou][aeiou][^aeiouwxy]$", base):
        doubled = base + base[-1]
        several = len(re.findall(r"[aeiouy]+", base)) > 1
        stems = {base, doubled} if several else {doubled}
        past = {stem + "ed" for stem in stems}
    return {plural} | past | {stem + "ing" for stem in stems}


@lru_cache(maxsize=65536)
def by_dictionary(token: str) -> frozenset[str]:
    """Base forms by simplemma's English dictionary, and those that regular spelling allows.

    Both are needed: the dictionary knows irregular forms, and has a few rare words in place of
    common ones ("swinge" for "swinging"). Words that it has not, such as misspelt ones, follow the
    rules.
    """
    if not (token and simplemma.is_known(token, lang="en")):
        return frozenset(by_rules(token))
    known = simplemma.lemmatize(token, lang="en", greedy=False)
    return frozenset({known} | {base for base in by_rules(token) if token in regular_forms(base)})


def base_forms(
    token: str, irregular: Mapping[str, str], lemmatizer: Lemmatizer = "rules"
) -> frozenset[str]:
    """The token itself and what may be its base form, for look-up in a list of words.

    Args:
        token: Lower case, with a plain apostrophe.
        irregular: Base forms that neither rules nor dictionary are asked for.
        lemmatizer: "rules" takes all forms of `by_rules`, "simplemma" those of `by_dictionary`.
    """
    plain = without_possessive(token)
    found = {token, plain}
    if plain in irregular:
        return frozenset(found | {irregular[plain]})
    return frozenset(found | (by_rules(plain) if lemmatizer == "rules" else by_dictionary(plain)))
