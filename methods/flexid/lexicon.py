"""The dictionary of edit intent (D_edit of the paper), of which the paper gives six examples."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

Category = Literal["expression", "pose", "style", "camera"]
CATEGORIES: tuple[Category, ...] = get_args(Category)

CJK = re.compile("[\u3400-\u9fff]")
VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class EnglishLexicon:
    """Words and phrases by category, and what keeps a hit from counting.

    `terms` maps a word or phrase, as a tuple of tokens, to its category.
    """

    terms: Mapping[tuple[str, ...], str]
    exclusions: frozenset[tuple[str, ...]]
    ing_only: frozenset[str]
    not_in_base_form: frozenset[str]
    irregular: Mapping[str, str]
    negators: frozenset[str]
    scope_breakers: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class ChineseLexicon:
    """Terms by category, and what keeps a hit from counting. `pseudo_negators` negate nothing."""

    terms: Mapping[str, str]
    exclusions: frozenset[str]
    negators: frozenset[str]
    pseudo_negators: tuple[str, ...]
    negation_fillers: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Lexicon:
    """Both languages. `sha256` is that of the file, before categories and extra words."""

    english: EnglishLexicon
    chinese: ChineseLexicon
    punctuation: frozenset[str]
    sha256: str


def check_categories(names: Iterable[str]) -> None:
    """Refuses categories that there are not.

    Raises:
        ValueError: Naming them and those that there are.
    """
    if unknown := sorted(set(names) - set(CATEGORIES)):
        raise ValueError(f"unknown categories {unknown}; allowed: {', '.join(CATEGORIES)}")


def load_lexicon(
    path: Path | None = None,
    *,
    categories: Sequence[str] = CATEGORIES,
    extra_keywords: Mapping[str, Sequence[str]] | None = None,
) -> Lexicon:
    """Reads a dictionary.

    Args:
        path: A JSON file laid out as the package's own, which is read if None.
        categories: Those that count as an edit.
        extra_keywords: More words and phrases, English or Chinese, by category.

    Raises:
        ValueError: If a category is unknown or the file is not such a dictionary.
    """
    extra = dict(extra_keywords or {})
    check_categories((*categories, *extra))
    source = path or files("idbench.methods.flexid").joinpath("intent_lexicon.json")
    data = source.read_bytes()
    try:
        content = json.loads(data)
        if content["version"] != VERSION:
            raise ValueError(f"version must be {VERSION}, got {content['version']!r}")
        english, chinese = content["en"], content["zh"]
        return Lexicon(
            english=_english(english, categories, extra),
            chinese=_chinese(chinese, categories, extra),
            punctuation=frozenset(content["punctuation_breakers"]),
            sha256=hashlib.sha256(data).hexdigest(),
        )
    except KeyError as error:
        raise ValueError(f"{source}: not an intent dictionary, no key {error}") from None
    except ValueError as error:
        raise ValueError(f"{source}: not an intent dictionary: {error}") from None


def _english(
    content: Mapping[str, Any], categories: Sequence[str], extra: Mapping[str, Sequence[str]]
) -> EnglishLexicon:
    return EnglishLexicon(
        terms={
            tuple(term.lower().split()): category
            for category in categories
            for term in (*content[category], *extra.get(category, ()))
            if not CJK.search(term)
        },
        exclusions=frozenset(tuple(phrase.split()) for phrase in content["exclude_phrases"]),
        ing_only=frozenset(content["ing_only"]),
        not_in_base_form=frozenset(content["not_in_base_form"]),
        irregular=content["irregular"],
        negators=frozenset(content["negators"]),
        scope_breakers=frozenset(content["scope_breakers"]),
    )


def _chinese(
    content: Mapping[str, Any], categories: Sequence[str], extra: Mapping[str, Sequence[str]]
) -> ChineseLexicon:
    return ChineseLexicon(
        terms={
            term: category
            for category in categories
            for term in (*content[category], *extra.get(category, ()))
            if CJK.search(term)
        },
        exclusions=frozenset(content["exclude"]),
        negators=frozenset(content["negators"]),
        pseudo_negators=tuple(sorted(content["pseudo_negators"], key=len, reverse=True)),
        negation_fillers=frozenset(content["negation_fillers"]),
    )
