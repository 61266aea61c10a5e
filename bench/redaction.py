"""Keeps secrets out of what is recorded: keys and tokens that stand in arguments or messages."""

import re
from typing import Any

SHOWN = "***"

_NAME = re.compile(
    r"(?:.*[_.-])?(?:api[_-]?key|access[_-]?key|auth|authorization|bearer|credentials?|passwd"
    r"|password|private[_-]?key|secret|token)",
    re.IGNORECASE,
)
# What publishers of tokens let them begin with, so that they can be found.
_SHAPES = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}"
    r"|github_pat_[A-Za-z0-9_]{20,}|AKIA[0-9A-Z]{16}|AIza[A-Za-z0-9_-]{30,}"
    r"|xox[abprs]-[A-Za-z0-9-]{10,}|r8_[A-Za-z0-9]{20,})"
)
_BEFORE = re.compile(
    r"(?P<before>\bbearer\s+(?=\S{8})"
    r"|--?(?:[a-z]+[_-])*(?:api[_-]?key|access[_-]?key|passwd|password|secret|token)(?:=|\s+)"
    r"|\b(?:[a-z]+[_-])*(?:api[_-]?key|access[_-]?key|passwd|password|secret|token)=)"
    r"(?![0-9.]+(?:[\s&;,)]|$))[^\s&;,'\")]+",  # not a number: that is a count
    re.IGNORECASE,
)
_IN_ADDRESS = re.compile(r"(?P<before>[a-z][a-z0-9+.-]*://)[^/@\s]+@", re.IGNORECASE)


def redacted_text(text: str) -> str:
    """A text with what looks like a secret replaced by `***`.

    That is what follows `token=`, `--password` or `Bearer`, the user and password of an address,
    and words in the shape of well-known tokens.
    """
    text = _SHAPES.sub(SHOWN, text)
    text = _IN_ADDRESS.sub(rf"\g<before>{SHOWN}@", text)
    return _BEFORE.sub(rf"\g<before>{SHOWN}", text)


def redacted(value: Any, name: str = "") -> Any:
    """A JSON value without secrets: texts are redacted, those of a secret's name altogether.

    Numbers stay under any name: a token that is a number is a count.
    """
    if isinstance(value, dict):
        return {key: redacted(entry, str(key)) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        # In the words of a command line, an option names the next word.
        options = [name, *(str(word).lstrip("-") if _is_option(word) else name for word in value)]
        return [redacted(*pair) for pair in zip(value, options, strict=False)]
    if not isinstance(value, str):
        return value
    if _NAME.fullmatch(name) and value and not _is_number(value):
        return SHOWN
    return redacted_text(value)


def _is_option(word: object) -> bool:
    return isinstance(word, str) and word.startswith("-")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
