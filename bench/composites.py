"""Composite axes: several columns as one number per sample, defined here and printed with it.

A term is a column divided by its scale, the largest value that a paper prints for it on IBench, so
that 1 means as much change as the most editable method in print. A composite is the weighted mean
of its terms, per sample; a sample that misses one term misses the composite.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from idbench.canonical import canonical_json, fingerprint
from idbench.columns import ColumnName, candidates, match_column
from idbench.records import Column


@dataclass(frozen=True, slots=True)
class Term:
    """A column in short form, what it is divided by, and its weight."""

    column: str
    scale: float
    weight: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Composite:
    """A named mean of terms; `protocol` is that of the terms."""

    name: str
    protocol: str
    summary: str
    terms: tuple[Term, ...]

    def formula(self, names: Sequence[str]) -> str:
        """The definition with the columns that stand for the terms."""
        parts = [
            f"{term.weight:.3g} x {name} / {term.scale:g}"
            for term, name in zip(self.terms, names, strict=True)
        ]
        return f"{self.name}@{self.protocol} = {' + '.join(parts)}"


def _geometry(protocol: str) -> Composite:
    # Scales: landmarkdiff 0.116 (UNO, FlexID table 1); yaw 25.02 (InfiniteYou (sim)), pitch 9.641
    # (EditIDv2), roll 12.69 (PuLID (SDXL)), all EditIDv2 table 1.
    return Composite(
        name="editability",
        protocol=protocol,
        summary="change of the face's shape and of its pose, half each",
        terms=(
            Term(f"landmarkdiff@{protocol}", 0.116, 1 / 2),
            Term(f"posediv.yaw@{protocol}", 25.02, 1 / 6),
            Term(f"posediv.pitch@{protocol}", 9.641, 1 / 6),
            Term(f"posediv.roll@{protocol}", 12.69, 1 / 6),
        ),
    )


COMPOSITES = (_geometry("strict"), _geometry("ibench"))


def add_composites(
    frame: pd.DataFrame, columns: Sequence[Column], wanted: Sequence[str]
) -> tuple[pd.DataFrame, list[Column], list[str]]:
    """The frame and columns with the composites that `wanted` names, and their definitions.

    A name is that of a composite, with `@protocol` or without where only one can be computed; names
    of ordinary columns are passed over.

    Raises:
        LookupError: If a composite is asked for whose terms were not scored, or are ambiguous.
    """
    frames, known, notes = [frame], list(columns), []
    for request in dict.fromkeys(name.partition(":")[0] for name in wanted):
        name = ColumnName.parse(request)
        found = [
            each
            for each in COMPOSITES
            if each.name == name.metric and name.protocol in ("", each.protocol)
        ]
        if not found or any(c.name.partition("[")[0] == request for c in columns):
            continue
        able = [each for each in found if _has_terms(each, columns)] or found[:1]
        composite = able[0]
        terms = [_term_column(term, columns) for term in composite.terms]
        column = _column(composite, terms)
        frames.append(_rows(frame, composite, terms, column))
        known.append(column)
        notes.append(composite.formula([term.name for term in terms]) + ".")
    return pd.concat(frames, ignore_index=True) if len(frames) > 1 else frame, known, notes


def _has_terms(composite: Composite, columns: Sequence[Column]) -> bool:
    names = [column.name for column in columns]
    return all(candidates(term.column, names) for term in composite.terms)


def _term_column(term: Term, columns: Sequence[Column]) -> Column:
    name = match_column(term.column, [column.name for column in columns])
    found = [column for column in columns if column.name == name]
    if len(found) > 1:
        raise LookupError(
            f"{name} has {len(found)} fingerprints in these runs; a composite needs one"
        )
    return found[0]


def _column(composite: Composite, terms: Sequence[Column]) -> Column:
    backends = "+".join(dict.fromkeys(ColumnName.parse(term.name).backend for term in terms))
    details = {
        "composite": composite.name,
        "terms": [
            {"column": column.name, "scale": term.scale, "weight": term.weight,
             "fingerprint": column.fingerprint}
            for term, column in zip(composite.terms, terms, strict=True)
        ],
    }  # fmt: skip
    return Column(
        name=f"{composite.name}@{composite.protocol}[{backends}]",
        fingerprint=fingerprint(details),
        unit="1 is the most in print",
        higher_is_better=True,
        low=0.0,
        high=float("inf"),
        axis="editability",
        comparable_to_published=all(term.comparable_to_published for term in terms),
        details=canonical_json(details),
    )


def _rows(
    frame: pd.DataFrame, composite: Composite, terms: Sequence[Column], column: Column
) -> pd.DataFrame:
    keys = ["run", "case_id", "sample"]
    total: pd.DataFrame | None = None
    for term, of in zip(composite.terms, terms, strict=True):
        part = frame[(frame["column"] == of.name) & (frame["fingerprint"] == of.fingerprint)]
        if total is None:
            total = part.assign(value=term.weight * part["value"] / term.scale)
            continue
        merged = total.merge(part[[*keys, "value", "reason"]], on=keys, suffixes=("", "_term"))
        reason = merged["reason"].where(merged["reason"] != "", merged["reason_term"])
        value = merged["value"] + term.weight * merged["value_term"] / term.scale
        total = merged[list(total.columns)].assign(value=value, reason=reason)
    if total is None:
        raise ValueError(f"the composite {composite.name} has no terms")
    return total.assign(
        column=column.name,
        fingerprint=column.fingerprint,
        reason=total["reason"].where(np.isnan(total["value"]), ""),
    )
