"""Edit intent of a prompt, I(P) of context-aware adaptive gating (CAG), and why it is that."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from idbench.methods.flexid.lemmas import Lemmatizer, base_forms, without_possessive
from idbench.methods.flexid.lexicon import CJK, Lexicon

IntentMode = Literal["binary", "graded"]

# A hit is negated by one of this many tokens, or Chinese characters, ahead of it.
NEGATION_TOKENS = 3
NEGATION_CHARACTERS = 4
GRADED_FULL = 3  # distinct categories at which graded intent is 1

_TOKEN = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*'?|[\u3400-\u9fff]+|\n|\S")
_CHINESE = re.compile(r"[a-z0-9\u3400-\u9fff]+")  # "3d" before Chinese belongs to the term
_PREFIX = re.compile(r"(?:non|un)-(.+)")
_NEUTRAL = "\0"


@dataclass(frozen=True, slots=True)
class Token:
    """A word, a run of Chinese or one punctuation mark, at `start` of the normalised prompt."""

    text: str
    start: int

    @property
    def end(self) -> int:
        """Where it ends, exclusive."""
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class Hit:
    """A term of the dictionary found in a prompt.

    `surface` is what the prompt says, `lemma` the term, `span` its place in the normalised prompt
    (start, end), `negated` whether the prompt says that it is not so.
    """

    surface: str
    lemma: str
    category: str
    negated: bool
    span: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Intent:
    """Edit intent in [0, 1] with all hits, those that do not count included.

    `forced` tells that the value was given and the hits did not decide.
    """

    value: float
    hits: tuple[Hit, ...]
    forced: bool = False

    @property
    def categories(self) -> tuple[str, ...]:
        """Distinct categories of the hits that count, sorted."""
        return tuple(sorted({hit.category for hit in self.hits if not hit.negated}))

    def as_record(self) -> dict[str, Any]:
        """The same as JSON."""
        return asdict(self) | {"categories": list(self.categories)}


def normalise(prompt: str) -> str:
    """The prompt in NFKC and lower case, with plain apostrophes."""
    text = unicodedata.normalize("NFKC", prompt).lower()
    return text.replace("\u2019", "'").replace("\u2018", "'")


class IntentParser:
    """Finds what a prompt asks to change: expression, pose, style or camera.

    Deterministic: words and phrases of a dictionary in all their forms, the longest first, left to
    right. Homographs count only in forms that are verbs, exclusions ("running shoes") and negated
    hits ("not smiling") do not count.

    Args:
        lexicon: The dictionary.
        mode: "binary" is the paper's: 1 if anything counts. "graded" is min(1, distinct categories
            / 3), because long prompts nearly always have some edit word.
        lemmatizer: See `base_forms`.
    """

    def __init__(
        self, lexicon: Lexicon, mode: IntentMode = "binary", lemmatizer: Lemmatizer = "simplemma"
    ) -> None:
        """Indexes the dictionary."""
        self.lexicon = lexicon
        self.mode = mode
        self.lemmatizer = lemmatizer
        english, chinese = lexicon.english, lexicon.chinese
        self._longest = max(map(len, (*english.terms, *english.exclusions)), default=0)
        self._longest_chinese = max(map(len, (*chinese.terms, *chinese.exclusions)), default=0)

    def __call__(self, prompt: str, *, force: float | None = None) -> Intent:
        """The intent of a prompt; `force` overrides its value."""
        text = normalise(prompt)
        hits = sorted((*self.english(text), *self.chinese(text)), key=lambda hit: hit.span)
        if force is not None:
            return Intent(force, tuple(hits), forced=True)
        intent = Intent(0.0, tuple(hits))
        count = len(intent.categories)
        value = min(1.0, count / GRADED_FULL) if self.mode == "graded" else float(count > 0)
        return Intent(value, tuple(hits))

    def english(self, text: str) -> list[Hit]:
        """Hits of English words and phrases in normalised text."""
        tokens = [Token(match.group(), match.start()) for match in _TOKEN.finditer(text)]
        forms = [self._forms(token.text) for token in tokens]
        hits = []
        position = 0
        while position < len(tokens):
            term, negated, length = self._term_at(tokens, forms, position)
            excluded = self._exclusion_at(tokens, forms, position)
            if excluded and excluded >= length:
                position += excluded
                continue
            if term:
                first, last = tokens[position], tokens[position + length - 1]
                hits.append(
                    Hit(
                        surface=text[first.start : last.end],
                        lemma=" ".join(term),
                        category=self.lexicon.english.terms[term],
                        negated=negated or self._is_negated(tokens, position),
                        span=(first.start, last.end),
                    )
                )
            position += length or 1
        return hits

    def chinese(self, text: str) -> list[Hit]:
        """Hits of Chinese terms in normalised text."""
        lexicon = self.lexicon.chinese
        hits = []
        for match in _CHINESE.finditer(text):
            run = match.group()
            if not CJK.search(run):
                continue
            position = 0
            while position < len(run):
                pieces = [
                    run[position : position + length]
                    for length in range(min(self._longest_chinese, len(run) - position), 0, -1)
                ]
                excluded = next((piece for piece in pieces if piece in lexicon.exclusions), None)
                found = next((piece for piece in pieces if piece in lexicon.terms), None)
                if found and not excluded:
                    start = match.start() + position
                    hits.append(
                        Hit(
                            surface=found,
                            lemma=found,
                            category=lexicon.terms[found],
                            negated=self._is_negated_chinese(run[:position]),
                            span=(start, start + len(found)),
                        )
                    )
                position += len(excluded or found or "1")
        return hits

    def _forms(self, token: str) -> frozenset[str]:
        return base_forms(token, self.lexicon.english.irregular, self.lemmatizer)

    def _term_at(
        self, tokens: Sequence[Token], forms: Sequence[frozenset[str]], position: int
    ) -> tuple[tuple[str, ...] | None, bool, int]:
        """The longest term at a position, whether a prefix negates it, and its tokens."""
        terms = self.lexicon.english.terms
        for length in range(min(self._longest, len(tokens) - position), 1, -1):
            here = forms[position : position + length]
            for term in terms:
                if len(term) == length and _matches(term, here):
                    return term, False, length
        word = tokens[position].text
        prefixed = _PREFIX.fullmatch(word)
        for text, negated in ((word, False), (prefixed and prefixed[1], True)):
            if not text:
                continue
            for form in sorted(self._forms(text), key=lambda form: (form != text, form)):
                if (form,) in terms and self._counts(text, form):
                    return (form,), negated, 1
        return None, False, 0

    def _counts(self, token: str, word: str) -> bool:
        """Whether this form of a homograph is the verb."""
        english = self.lexicon.english
        plain = without_possessive(token)
        if word in english.ing_only:
            # Irregular pasts by the dictionary of intent alone: "torn" is no weeping.
            is_ing = plain.endswith("ing") and plain != word
            return is_ing or english.irregular.get(plain) == word
        return word not in english.not_in_base_form or plain != word

    def _exclusion_at(
        self, tokens: Sequence[Token], forms: Sequence[frozenset[str]], position: int
    ) -> int:
        """Number of tokens of the longest exclusion at a position, 0 if there is none."""
        exclusions = self.lexicon.english.exclusions
        for length in range(min(self._longest, len(tokens) - position), 0, -1):
            here = forms[position : position + length]
            if any(len(phrase) == length and _matches(phrase, here) for phrase in exclusions):
                return length
        return 0

    def _is_negated(self, tokens: Sequence[Token], position: int) -> bool:
        english = self.lexicon.english
        for token in reversed(tokens[max(0, position - NEGATION_TOKENS) : position]):
            if token.text in self.lexicon.punctuation or token.text in english.scope_breakers:
                return False
            if token.text in english.negators or token.text.endswith("n't"):
                return True
        return False

    def _is_negated_chinese(self, before: str) -> bool:
        lexicon = self.lexicon.chinese
        for harmless in lexicon.pseudo_negators:
            before = before.replace(harmless, _NEUTRAL * len(harmless))
        window = before[-NEGATION_CHARACTERS:]
        ends = [window]
        if window[-1:] in lexicon.negation_fillers:
            ends.append(window[:-1])
        return any(end.endswith(negator) for end in ends for negator in lexicon.negators)


def _matches(term: Sequence[str], forms: Sequence[frozenset[str]]) -> bool:
    return all(word in form for word, form in zip(term, forms, strict=True))
