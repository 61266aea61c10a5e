"""Sweeps: the values of one numeric parameter of a method."""

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from idbench.methods.parameters import Parameter

MOST_STEPS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """A parameter and its values, in order."""

    parameter: str
    values: tuple[int | float, ...]


def parse_sweep(text: str, parameters: Mapping[str, Parameter], *, method: str) -> Sweep:
    """Reads `parameter=from:to:step` (both ends count) or `parameter=v1,v2,v3`.

    Decimals are kept exact: 0:0.3:0.1 ends at 0.3.

    Raises:
        ValueError: If the text has another form, the method has no such parameter, or the
            parameter is not numeric.
    """
    name, sign, spec = text.partition("=")
    if not sign or not name or not spec:
        raise ValueError(f"--over takes parameter=from:to:step or parameter=v1,v2, got {text!r}")
    numeric = [key for key, entry in parameters.items() if _is_numeric(entry.annotation)]
    if name not in numeric:
        known = ", ".join(numeric) or "none"
        raise ValueError(f"method {method!r} has no numeric parameter {name!r}; numeric: {known}")
    values = _range(spec) if ":" in spec else [_decimal(part) for part in spec.split(",")]
    if len(values) < 2:
        raise ValueError(f"a sweep needs two values or more, {text!r} has {len(values)}")
    whole = not _takes_float(parameters[name].annotation)
    if whole and any(value != value.to_integral_value() for value in values):
        raise ValueError(f"{name} of method {method!r} takes whole numbers, got {spec!r}")
    return Sweep(
        parameter=name,
        values=tuple(int(value) if whole else float(value) for value in values),
    )


def _range(spec: str) -> list[Decimal]:
    parts = [_decimal(part) for part in spec.split(":")]
    if len(parts) != 3:
        raise ValueError(f"a range is from:to:step, got {spec!r}")
    start, end, step = parts
    if step == 0 or (end - start) * step < 0:
        raise ValueError(f"a step of {step} does not lead from {start} to {end}")
    count = int((end - start) / step) + 1
    if count > MOST_STEPS:
        raise ValueError(f"{spec!r} has {count} values; at most {MOST_STEPS}")
    return [start + place * step for place in range(count)]


def _decimal(text: str) -> Decimal:
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        raise ValueError(f"{text!r} is no number") from None
    if not value.is_finite():
        raise ValueError(f"{text!r} is no finite number")
    return value


def _members(annotation: object) -> tuple[object, ...]:
    origin = typing.get_origin(annotation)
    if origin is typing.Union or origin is types.UnionType:
        return typing.get_args(annotation)
    if origin is typing.Annotated:
        return _members(typing.get_args(annotation)[0])
    return (annotation,)


def _is_numeric(annotation: object) -> bool:
    return any(member in (int, float) for member in _members(annotation))


def _takes_float(annotation: object) -> bool:
    return float in _members(annotation)
