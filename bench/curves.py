"""Curves: runs of one method that differ in one numeric argument, in the order of its values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from idbench.canonical import canonical_json

FEWEST = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Where a run stands on a curve: the curve's name, the parameter and its value there."""

    curve: str
    parameter: str
    value: float

    @property
    def text(self) -> str:
        """Such as sigma=2."""
        return f"{self.parameter}={self.value:g}"


def find_curves(runs: Mapping[str, Mapping[str, object]]) -> dict[str, Step]:
    """Run to its step, for runs that are part of a curve.

    Args:
        runs: Run to its suite, target and args (a mapping). Of several parameters that would make
            a curve of a run, the one with the longer curve counts, then the first by name.
    """
    groups: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for run, facts in runs.items():
        args = facts["args"]
        if not isinstance(args, Mapping):
            continue
        for name in args:
            value = _number(args[name])
            if value is None:
                continue
            rest = {key: str(entry) for key, entry in args.items() if key != name}
            key = canonical_json([facts["suite"], facts["target"], rest])
            groups.setdefault((name, key), []).append((value, run))
    steps: dict[str, Step] = {}
    ordered = sorted(groups.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    for (name, key), members in ordered:
        free = [member for member in members if member[1] not in steps]
        if len({value for value, _ in free}) >= FEWEST:
            for value, run in free:
                steps[run] = Step(curve=f"{name} {key}", parameter=name, value=value)
    return steps


def in_order(runs: Sequence[str], steps: Mapping[str, Step]) -> list[str]:
    """The runs of curves, curve by curve in rising order of the parameter, then the others."""
    on_curve = [run for run in runs if run in steps]
    on_curve.sort(key=lambda run: (steps[run].curve, steps[run].value))
    return on_curve + [run for run in runs if run not in steps]


def _number(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) else None
