"""Sentences of the papers, re-derived from the numbers of their tables (pure).

A claim is decided by checks: expressions on the numbers of a table. Names in them are the functions
of `_functions`; anything but arithmetic, comparisons and these functions is refused.
"""

import ast
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Any, Literal

import yaml

from idbench.paper_tables import DATA, PublishedTable, load_tables, marks, mean_ranks

Verdict = Literal[
    "supported", "partially_supported", "contradicted", "not_verifiable", "not_measured"
]
Numbers = Mapping[str, Mapping[str, float]]  # column -> row -> number

_ALLOWED = (
    ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.BinOp, ast.Add,
    ast.Sub, ast.Mult, ast.Div, ast.Mod, ast.Compare, ast.Gt, ast.GtE, ast.Lt, ast.LtE, ast.Eq,
    ast.NotEq, ast.NotIn, ast.In, ast.Call, ast.Name, ast.Load, ast.Store, ast.Constant, ast.Tuple,
    ast.List, ast.GeneratorExp, ast.ListComp, ast.comprehension,
)  # fmt: skip


class NotMeasuredError(LookupError):
    """A check needs a number that is not there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A quantitative sentence of a paper. `note` says what the numbers do not."""

    id: str
    paper: str
    claim: str
    claimed: str
    table: str | None
    checks: tuple[str, ...]
    note: str


@dataclass(frozen=True, slots=True)
class CheckedClaim:
    """A claim and what its checks gave: one True, False or None (a number is missing) each."""

    claim: Claim
    found: tuple[bool | None, ...]

    @property
    def verdict(self) -> Verdict:
        """Supported if every check holds, contradicted if none does."""
        if not self.found:
            return "not_verifiable"
        if any(found is None for found in self.found):
            return "not_measured"
        if all(self.found):
            return "supported"
        return "partially_supported" if any(self.found) else "contradicted"


@cache
def load_claims() -> tuple[Claim, ...]:
    """Every claim, in the order of the papers."""
    document = yaml.safe_load(files(DATA).joinpath("claims.yaml").read_text("utf-8"))
    return tuple(
        Claim(
            id=raw["id"],
            paper=raw["id"].rpartition("-")[0],
            claim=raw["claim"],
            claimed=raw["claimed"],
            table=raw.get("table"),
            checks=tuple(raw.get("checks", ())),
            note=raw.get("note", ""),
        )
        for raw in document["claims"]
    )


def check_claim(
    claim: Claim, measured: Mapping[str, Numbers] | None = None, *, tolerance: float = 0.0
) -> CheckedClaim:
    """Evaluates the checks of a claim.

    Args:
        claim: The claim.
        measured: Table id to measured numbers, in place of the printed ones. A check that needs a
            number that is not there yields None.
        tolerance: Relative difference within which a number counts as the claimed one; 0 asks
            that it rounds to it.
    """
    found: list[bool | None] = []
    for check in claim.checks:
        try:
            found.append(bool(evaluate(check, claim, measured, tolerance)))
        except NotMeasuredError:
            found.append(None)
    return CheckedClaim(claim, tuple(found))


def evaluate(
    check: str,
    claim: Claim,
    measured: Mapping[str, Numbers] | None = None,
    tolerance: float = 0.0,
) -> object:
    """The value of one expression.

    Raises:
        ValueError: If it is more than arithmetic, comparisons and known functions.
        NotMeasuredError: If it needs a number that is not there.
    """
    functions = _functions(claim, measured, tolerance)
    tree = ast.parse(check, mode="eval")
    bound = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    for node in ast.walk(tree):
        known = not isinstance(node, ast.Name) or node.id in functions or node.id in bound
        called = not isinstance(node, ast.Call) or isinstance(node.func, ast.Name)
        if not isinstance(node, _ALLOWED) or not known or not called:
            raise ValueError(f"{claim.id}: {ast.unparse(node)!r} may not stand in a check")
    # Every node is on the list above, so nothing but the functions below can be reached.
    return eval(compile(tree, claim.id, "eval"), {"__builtins__": {}, **functions})


def _functions(
    claim: Claim, measured: Mapping[str, Numbers] | None, tolerance: float
) -> dict[str, Callable[..., Any]]:
    def table(name: str | None) -> PublishedTable:
        return load_tables()[f"{claim.paper}:{name or claim.table}"]

    def numbers(name: str | None, column: str) -> Mapping[str, float]:
        chosen = table(name)
        if measured is None:
            return chosen.numbers(column)
        return measured.get(chosen.id, {}).get(column, {})

    def v(row: str, column: str, of: str | None = None) -> float:
        """The number of a row."""
        if row not in table(of).cells:
            raise LookupError(f"{claim.id}: {table(of).id} has no row {row!r}")
        found = numbers(of, column)
        if row not in found:
            raise NotMeasuredError(f"{row}, {column}")
        return found[row]

    def known(row: str, column: str, of: str | None = None) -> bool:
        """Whether a row has the number."""
        return row in numbers(of, column)

    def complete(column: str, of: str | None = None) -> Mapping[str, float]:
        """All numbers of a column; measured rows must cover what is printed."""
        found = numbers(of, column)
        absent = table(of).numbers(column).keys() - found.keys()
        if absent:
            raise NotMeasuredError(f"{', '.join(sorted(absent))}, {column}")
        return found

    def others(row: str, column: str, of: str | None = None) -> list[float]:
        """The numbers of all other rows."""
        return [value for name, value in complete(column, of).items() if name != row]

    def best(row: str, column: str, of: str | None = None) -> bool:
        """Whether a row alone is the best of a column."""
        found = complete(column, of)
        leaders = marks(found, higher=table(of).column(column).better == "up")
        return leaders.get(row) == "best" and list(leaders.values()).count("best") == 1

    def mean_rank(row: str) -> float:
        """Mean of the ordinal ranks of a row over the ranked columns."""
        given = {name: complete(name) for name in table(None).ranked}
        return mean_ranks(table(None), given)[row]

    def shows(value: float, text: str) -> bool:
        """Whether a value, rounded like `text`, is `text`, or is within the tolerance of it."""
        decimals = len(text.partition(".")[2])
        # A margin of 1e-9 for what binary fractions add to decimals.
        rounding = 0.5 * 10.0**-decimals + 1e-9
        return abs(value - float(text)) <= max(rounding, tolerance * abs(float(text)))

    def increasing(values: Sequence[float]) -> bool:
        """Whether each value is above the one before."""
        return all(one < other for one, other in pairwise(values))

    def count(found: Iterable[bool]) -> int:
        """How many hold."""
        return sum(1 for each in found if each)

    def mean(values: Sequence[float]) -> float:
        return math.fsum(values) / len(values)

    return {
        "v": v,
        "known": known,
        "others": others,
        "best": best,
        "mean_rank": mean_rank,
        "shows": shows,
        "increasing": increasing,
        "count": count,
        "mean": mean,
        "rows": lambda of=None: list(table(of).cells),
        "column": lambda name, of=None: list(complete(name, of).values()),
        "max": max,
        "min": min,
        "sum": sum,
        "abs": abs,
        "all": all,
        "any": any,
    }
