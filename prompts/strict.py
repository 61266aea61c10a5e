"""Reading JSON strictly: every key known, every type checked, every error naming file and key."""

import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from idbench.prompts.cases import Box


class ManifestError(ValueError):
    """A suite file that breaks the format; the message names the file, the line and the key."""


def parse_json(text: str | bytes, where: str) -> object:
    """Decodes JSON; refuses NaN, infinities and keys that occur twice.

    Raises:
        ManifestError: If `text` is not JSON in UTF-8.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{where}: not JSON: {error}") from None


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a number of JSON")


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    record = dict(pairs)
    if len(record) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {twice!r} occurs twice")
    return record


def read_utf8(path: Path) -> str:
    """The text of a file.

    Raises:
        ManifestError: If it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not UTF-8: {error}") from error


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)


class Record:
    """One JSON object being read strictly: every key is taken once, by type, none is left over.

    Raises:
        ManifestError: From every method, naming `where` and the key.
    """

    __slots__ = ("_left", "_where")

    def __init__(self, value: object, where: str) -> None:
        """Wraps a decoded JSON value, which must be an object."""
        if type(value) is not dict:
            raise ManifestError(f"{where}: expected an object, got {shown(value)}")
        self._left: dict[str, Any] = dict(value)
        self._where = where

    def fail(self, key: str, expected: str, value: object) -> ManifestError:
        """The error to raise for a value that is not what was expected."""
        return ManifestError(f"{self._where}, key {key!r}: expected {expected}, got {shown(value)}")

    def take(self, key: str) -> Any:
        """The value of a key that must be there."""
        try:
            return self._left.pop(key)
        except KeyError:
            raise ManifestError(f"{self._where}, key {key!r}: missing") from None

    def text(
        self, key: str, pattern: re.Pattern[str] | None = None, *, normalised: bool = False
    ) -> str:
        """A string that can be written as UTF-8 and matches `pattern` as a whole.

        With `normalised` it has to be in Unicode normal form NFC.
        """
        value = self.take(key)
        if type(value) is not str:
            raise self.fail(key, "a string", value)
        if not value.isascii():
            if normalised and not unicodedata.is_normalized("NFC", value):
                raise self.fail(key, "a string in Unicode normal form NFC", value)
            if any("\ud800" <= letter <= "\udfff" for letter in value):
                raise self.fail(key, "a string without lone surrogates", value)
        if pattern is not None and not pattern.fullmatch(value):
            raise self.fail(key, f"a string like {pattern.pattern}", value)
        return value

    def path(self, key: str) -> str:
        """A relative path with forward slashes that stays below its root (any byte else goes)."""
        value = self.take(key)
        if type(value) is not str:
            raise self.fail(key, "a relative path", value)
        problem = path_problem(value)
        if problem:
            raise ManifestError(f"{self._where}, key {key!r}: {problem}: {shown(value)}")
        return value

    def optional_text(self, key: str) -> str | None:
        """A string, or None where the key is absent."""
        return self.text(key) if key in self._left else None

    def choice(self, key: str, allowed: tuple[str, ...]) -> Any:
        """One of `allowed`."""
        value = self.take(key)
        if value not in allowed:
            raise self.fail(key, " | ".join(allowed), value)
        return value

    def optional_choice(self, key: str, allowed: tuple[str, ...]) -> Any:
        """One of `allowed`, or None where the key is absent."""
        return self.choice(key, allowed) if key in self._left else None

    def whole(self, key: str, low: int) -> int:
        """A whole number of at least `low`."""
        value = self.take(key)
        if type(value) is not int or not low <= value < 2**63:
            raise self.fail(key, f"a whole number of at least {low}", value)
        return value

    def boolean(self, key: str) -> bool:
        """True or false."""
        value = self.take(key)
        if type(value) is not bool:
            raise self.fail(key, "true or false", value)
        return value

    def box(self, key: str, limit: float) -> Box | None:
        """Four finite numbers with x0 < x1 and y0 < y1 in [0, limit]; None where absent."""
        if key not in self._left:
            return None
        value = self.take(key)
        good = (
            type(value) is list
            and len(value) == 4
            and all(type(edge) in (int, float) for edge in value)
            and 0 <= value[0] < value[2] <= limit
            and 0 <= value[1] < value[3] <= limit
        )
        if not good:
            raise self.fail(key, f"[x0, y0, x1, y1] in [0, {limit:g}] with x0 < x1, y0 < y1", value)
        x0, y0, x1, y1 = map(float, value)
        return (x0, y0, x1, y1)

    def sequence(self, key: str) -> list[Any]:
        """A list."""
        value = self.take(key)
        if type(value) is not list:
            raise self.fail(key, "a list", value)
        return value

    def records(self, key: str) -> Iterator["Record"]:
        """A list of objects."""
        for index, value in enumerate(self.sequence(key)):
            yield Record(value, f"{self._where}, {key}[{index}]")

    def record(self, key: str) -> "Record":
        """An object."""
        return Record(self.take(key), f"{self._where}, {key}")

    def optional_record(self, key: str) -> "Record | None":
        """An object, or None where the key is absent."""
        return self.record(key) if key in self._left else None

    def has(self, key: str) -> bool:
        """Whether the key is there and not yet taken."""
        return key in self._left

    def done(self) -> None:
        """Refuses keys that nobody took."""
        if self._left:
            raise ManifestError(f"{self._where}: unknown key {sorted(self._left)[0]!r}")


def path_problem(path: str) -> str | None:
    """What is wrong with `path` as a path below a source root, or None."""
    if not path or "\0" in path or path.startswith("/") or "\\" in path:
        return "not a relative path with forward slashes"
    if re.match(r"[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*://", path):
        return "a drive or an address instead of a relative path"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return "a path with '.', '..' or an empty part"
    if any("\ud800" <= letter <= "\udfff" for letter in path):
        return "a path that is not valid Unicode"
    return None


def shown(value: object) -> str:
    """A value as errors print it, cut to 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
