"""Metamorphic checks: what each metric must do when a photograph is changed in a known way.

Part E of the metric specification, as data. Nothing here runs a network: a harness makes the
images of the scenarios, scores them, and hands the values to `judge`. The tolerances are those of
the embedded backend on one photograph with one clear face, wider than what was measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol

from idbench.metrics.protocol import Missing

Value = float | Missing
Verdict = Literal["pass", "fail", "skip"]


class Expectation(Protocol):
    """What the values of a column must do over the scenarios of a check."""

    def holds(self, values: Sequence[Value]) -> bool:
        """Whether they do; values in the order of the check's scenarios."""
        ...

    def __str__(self) -> str:
        """For people."""
        ...


def _numbers(values: Sequence[Value]) -> list[float] | None:
    numbers = [value for value in values if not isinstance(value, Missing)]
    return numbers if len(numbers) == len(values) else None


@dataclass(frozen=True, slots=True)
class Near:
    """Every value within `tolerance` of `target`."""

    target: float
    tolerance: float

    def holds(self, values: Sequence[Value]) -> bool:
        """Whether they are."""
        numbers = _numbers(values)
        return numbers is not None and all(abs(n - self.target) <= self.tolerance for n in numbers)

    def __str__(self) -> str:
        """The target and its tolerance."""
        return f"{self.target:g} within {self.tolerance:g}"


@dataclass(frozen=True, slots=True)
class Equals:
    """Each value within `tolerance` of its own target."""

    targets: tuple[float, ...]
    tolerance: float

    def holds(self, values: Sequence[Value]) -> bool:
        """Whether they are."""
        numbers = _numbers(values)
        return numbers is not None and all(
            abs(n - target) <= self.tolerance
            for n, target in zip(numbers, self.targets, strict=True)
        )

    def __str__(self) -> str:
        """The targets and their tolerance."""
        listed = ", ".join(f"{target:g}" for target in self.targets)
        return f"{listed} within {self.tolerance:g}"


@dataclass(frozen=True, slots=True)
class AtLeast:
    """No value below `low`."""

    low: float

    def holds(self, values: Sequence[Value]) -> bool:
        """Whether none is."""
        numbers = _numbers(values)
        return numbers is not None and min(numbers) >= self.low

    def __str__(self) -> str:
        """The bound."""
        return f"at least {self.low:g}"


@dataclass(frozen=True, slots=True)
class Below:
    """Every value below `high`."""

    high: float

    def holds(self, values: Sequence[Value]) -> bool:
        """Whether they are."""
        numbers = _numbers(values)
        return numbers is not None and max(numbers) < self.high

    def __str__(self) -> str:
        """The bound."""
        return f"below {self.high:g}"


@dataclass(frozen=True, slots=True)
class Falling:
    """Each value below the one before."""

    def holds(self, values: Sequence[Value]) -> bool:
        """Whether they fall."""
        numbers = _numbers(values)
        return numbers is not None and all(after < before for before, after in pairwise(numbers))

    def __str__(self) -> str:
        """The direction."""
        return "falls at every step"


@dataclass(frozen=True, slots=True)
class Opposite:
    """The second value is minus the first, within `tolerance`."""

    tolerance: float

    def holds(self, values: Sequence[Value]) -> bool:
        """Whether it is."""
        numbers = _numbers(values)
        return numbers is not None and abs(numbers[0] + numbers[1]) <= self.tolerance

    def __str__(self) -> str:
        """The tolerance."""
        return f"changes its sign within {self.tolerance:g}"


@dataclass(frozen=True, slots=True)
class Rising:
    """Each value above the one before."""

    def holds(self, values: Sequence[Value]) -> bool:
        """Whether they rise."""
        numbers = _numbers(values)
        return numbers is not None and all(after > before for before, after in pairwise(numbers))

    def __str__(self) -> str:
        """The direction."""
        return "rises at every step"


@dataclass(frozen=True, slots=True)
class Unchanged:
    """All values within `tolerance` of the first; values missing for one reason count as equal."""

    tolerance: float

    def holds(self, values: Sequence[Value]) -> bool:
        """Whether they are."""
        first = values[0]
        if isinstance(first, Missing):
            return all(isinstance(v, Missing) and v.reason == first.reason for v in values)
        numbers = _numbers(values)
        return numbers is not None and all(abs(n - first) <= self.tolerance for n in numbers)

    def __str__(self) -> str:
        """The tolerance."""
        return f"stays within {self.tolerance:g}"


@dataclass(frozen=True, slots=True)
class Changed:
    """The second value differs from the first by more than `least`."""

    least: float

    def holds(self, values: Sequence[Value]) -> bool:
        """Whether it does."""
        numbers = _numbers(values)
        return numbers is not None and abs(numbers[1] - numbers[0]) > self.least

    def __str__(self) -> str:
        """The least change."""
        return f"changes by more than {self.least:g}"


@dataclass(frozen=True, slots=True)
class LastIsLowest:
    """The last value is below all others."""

    def holds(self, values: Sequence[Value]) -> bool:
        """Whether it is."""
        numbers = _numbers(values)
        return numbers is not None and numbers[-1] < min(numbers[:-1])

    def __str__(self) -> str:
        """The comparison."""
        return "lower than for every change of the same photograph"


@dataclass(frozen=True, slots=True)
class Misses:
    """Every value is missing, for the reason `reason`."""

    reason: str

    def holds(self, values: Sequence[Value]) -> bool:
        """Whether they are."""
        return all(isinstance(value, Missing) and value.reason == self.reason for value in values)

    def __str__(self) -> str:
        """The reason."""
        return f"is missing: {self.reason}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """A check of part E for one column. `number` is its row there."""

    number: int
    column: str
    scenarios: tuple[str, ...]
    expectation: Expectation


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """What came of a check; `values` are those of its scenarios, in order."""

    check: Check
    verdict: Verdict
    values: tuple[Value, ...] = ()
    reason: str = ""


def judge(checks: Sequence[Check], values: Mapping[str, Mapping[str, Value]]) -> list[Judgement]:
    """Holds checks against values.

    Args:
        checks: What is expected.
        values: Column to scenario to value. A column that was not computed is absent; its checks
            are skipped, which is not passing.
    """
    judgements = []
    for check in checks:
        found = values.get(check.column)
        if found is None:
            judgements.append(
                Judgement(check=check, verdict="skip", reason="its networks are not here")
            )
            continue
        used = tuple(found[scenario] for scenario in check.scenarios)
        verdict: Verdict = "pass" if check.expectation.holds(used) else "fail"
        judgements.append(Judgement(check=check, verdict=verdict, values=used))
    return judgements
