"""Names of score columns: short forms, and what tells two columns of one name apart."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from idbench.records import Column

_NAME = re.compile(r"(?P<metric>[^@\[\]]+)(?:@(?P<protocol>[^\[\]]+))?(?:\[(?P<backend>[^\]]+)\])?")


@dataclass(frozen=True, slots=True)
class ColumnName:
    """Parts of `metric[.variant]@protocol[backend]`; empty where a short form leaves one out."""

    metric: str
    protocol: str = ""
    backend: str = ""

    @classmethod
    def parse(cls, text: str) -> "ColumnName":
        """Parts of a full or short name.

        Raises:
            LookupError: If the text is no column name.
        """
        found = _NAME.fullmatch(text.strip())
        if found is None:
            raise LookupError(
                f"{text!r} is no column name; the form is metric[.variant]@protocol[backend]"
            )
        return cls(found["metric"], found["protocol"] or "", found["backend"] or "")

    def covers(self, other: "ColumnName") -> bool:
        """Whether every part that this short name has is that of `other`."""
        return (
            (self.metric == other.metric or other.metric.startswith(f"{self.metric}."))
            and self.protocol in ("", other.protocol)
            and self.backend in ("", other.backend)
        )


def candidates(requested: str, available: Sequence[str]) -> list[str]:
    """Available names that a full or short name can mean, in their order.

    `posediv` means `posediv.yaw@strict[dlib68]` and its other variants, unless a column is named
    `posediv` itself.
    """
    if requested in available:
        return [requested]
    wanted = ColumnName.parse(requested)
    found = [name for name in available if wanted.covers(ColumnName.parse(name))]
    return [name for name in found if ColumnName.parse(name).metric == wanted.metric] or found


def match_column(requested: str, available: Iterable[str]) -> str:
    """The one available name that a full or short name means.

    Raises:
        LookupError: If there is none, or more than one; the message lists the candidates.
    """
    names = list(dict.fromkeys(available))
    found = candidates(requested, names)
    if len(found) == 1:
        return found[0]
    if found:
        raise LookupError(f"column {requested!r} can mean {', '.join(found)}; name one of them")
    raise LookupError(f"unknown column {requested!r}; known: {', '.join(sorted(names)) or 'none'}")


def match_columns(requested: Sequence[str], available: Iterable[str]) -> list[str]:
    """The available names that the requested ones mean, in the order of the request.

    A name that ends in `*` stands for all that begin with it; any other stands for exactly one.

    Raises:
        LookupError: As `match_column`.
    """
    names = list(dict.fromkeys(available))
    chosen: list[str] = []
    for request in requested:
        if request.endswith("*"):
            found = [name for name in names if name.startswith(request[:-1])]
            if not found:
                raise LookupError(f"no column begins with {request[:-1]!r}; known: {names}")
            chosen.extend(found)
        else:
            chosen.append(match_column(request, names))
    return list(dict.fromkeys(chosen))


def differing_fields(first: Column, second: Column) -> list[str]:
    """Fields of two columns' `details` that differ, as `path: value, not value`."""
    one, two = _flat(_parsed(first.details)), _flat(_parsed(second.details))
    return [
        f"{path}: {one.get(path, 'absent')}, not {two.get(path, 'absent')}"
        for path in sorted(one.keys() | two.keys())
        if one.get(path) != two.get(path)
    ]


def _parsed(details: str) -> object:
    try:
        return json.loads(details)
    except json.JSONDecodeError:
        return details


def _flat(value: object, path: str = "") -> dict[str, str]:
    if isinstance(value, Mapping):
        entries = [(str(key), entry) for key, entry in value.items()]
    elif isinstance(value, list):
        entries = [(str(index), entry) for index, entry in enumerate(value)]
    else:
        return {path or "details": json.dumps(value, ensure_ascii=False)}
    flat: dict[str, str] = {}
    for key, entry in entries:
        flat |= _flat(entry, f"{path}.{key}" if path else key)
    return flat
