"""`idbench method check`: each promise of the contract is one named check.

The kit asks for small images of sound requests of every kind that the method declares, and for one
request that cannot be answered.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import get_args

from idbench.methods.conformance.fresh_process import same_elsewhere
from idbench.methods.conformance.images import ImageChecks
from idbench.methods.conformance.outcome import Check, FailedError, outcome
from idbench.methods.conformance.sample_requests import Portrait, portraits
from idbench.methods.parameters import Parameter
from idbench.methods.protocol import Capabilities, Kind, Method
from idbench.methods.registry import build, method_parameters


def check_named(
    name: str,
    args: Mapping[str, object] | None = None,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    tolerance: int = 0,
    pair: Sequence[Portrait] | None = None,
) -> Iterator[Check]:
    """Checks a method by name, as `build` takes it: construction, contract, a fresh interpreter.

    Args:
        name: As in `registry.build`.
        args: As in `registry.build`.
        device: As in `registry.build`.
        dtype: As in `registry.build`.
        tolerance: Largest difference of a channel, in [0, 255], at which two images count as
            equal. The contract says 0; kernels of a GPU may need 1 or 2.
        pair: Two portraits to ask with; by default those of `portraits`.

    Raises:
        LookupError: If there is no such method.
        ImportError: If it cannot be imported.
        ValueError: If `args` do not fit.
    """
    given = dict(args or {})
    pair = pair or portraits()

    def fresh() -> Method:
        return build(name, given, device=device, dtype=dtype)

    method = fresh()
    yield Check(name="constructs", passed=True, detail=f"{type(method).__name__} by name")
    silent = frozenset(getattr(method, "MOVES_NO_PIXEL", ()))
    other, how = _varied(name, given, silent, device=device, dtype=dtype)
    yield from check(method, fresh=fresh, other=other, tolerance=tolerance, pair=pair)
    if other is None:
        yield Check(name="fingerprint_parameters", passed=None, detail=how)
    if method.capabilities.deterministic:
        elsewhere = functools.partial(
            same_elsewhere,
            method,
            name,
            given,
            pair,
            device=device,
            dtype=dtype,
            tolerance=tolerance,
        )
        yield outcome("fresh_process", elsewhere)


def check(
    method: Method,
    *,
    fresh: Callable[[], Method] | None = None,
    other: Method | None = None,
    tolerance: int = 0,
    pair: Sequence[Portrait] | None = None,
) -> Iterator[Check]:
    """Checks a method, one promise of the contract after the other.

    Args:
        method: What is checked.
        fresh: Constructs the same method again, to compare two instances.
        other: The same method with another value of a parameter, to compare fingerprints.
        tolerance: Largest difference of a channel at which two images count as equal.
        pair: Two portraits to ask with; by default those of `portraits`.

    Yields:
        A `Check` as soon as it is decided. If sound requests are not answered, the checks that
        compare images are left out.
    """
    first = outcome("capabilities", lambda: _capabilities(method))
    yield outcome("name", lambda: _name(method))
    yield first
    yield outcome("fingerprint", lambda: _fingerprint(method, fresh))
    if other is not None:
        differs = functools.partial(_fingerprint_differs, method, other)
        yield outcome("fingerprint_parameters", differs)
    if not first.passed:
        return
    kit = ImageChecks(method, pair or portraits(), tolerance)
    for kind in kit.kinds:
        answered = outcome(f"answers_{kind}", functools.partial(kit.answers, kind))
        yield answered
        if not answered.passed:
            return
    yield outcome("size", kit.size)
    yield outcome("inputs_untouched", kit.inputs_untouched)
    yield outcome("repeatable", kit.repeatable)
    if fresh is not None:
        yield outcome("repeatable_fresh", functools.partial(kit.repeatable_fresh, fresh))
    yield outcome("batch", kit.batch)
    yield outcome("order", kit.order)
    yield outcome("seed", kit.seed)
    yield outcome("references", kit.references)
    yield outcome("prompt", kit.prompt)
    yield outcome("failure", kit.failure)


def _name(method: Method) -> str:
    if not isinstance(method.name, str) or not method.name:
        raise FailedError(f"name must be a text that is not empty, got {method.name!r}")
    return method.name


def _capabilities(method: Method) -> str:
    can = method.capabilities
    if not isinstance(can, Capabilities):
        raise FailedError(f"capabilities must be Capabilities, got {type(can).__name__}")
    unknown = sorted(set(can.kinds) - set(get_args(Kind)))
    if unknown or not can.kinds:
        raise FailedError(f"kinds must be some of {get_args(Kind)}, got {sorted(can.kinds)}")
    several = {"multi_id", "multi_subject"} & set(can.kinds)
    if can.max_people < (2 if several else 1):
        raise FailedError(f"max_people is {can.max_people}, but kinds are {sorted(can.kinds)}")
    if can.max_batch_size is not None and can.max_batch_size < 1:
        raise FailedError(f"max_batch_size must be None or positive, got {can.max_batch_size}")
    return f"{', '.join(sorted(can.kinds))}; up to {can.max_people} people"


def _fingerprint(method: Method, fresh: Callable[[], Method] | None) -> str:
    first = _as_json(method)
    if _as_json(method) != first:
        raise FailedError("two calls give two fingerprints")
    if fresh is not None and _as_json(fresh()) != first:
        raise FailedError("a second instance of the same method has another fingerprint")
    return hashlib.sha256(first.encode()).hexdigest()[:8]


def _fingerprint_differs(method: Method, other: Method) -> str:
    if _as_json(method) == _as_json(other):
        raise FailedError("another value of a parameter leaves the fingerprint as it is")
    return "a parameter is part of it"


def _as_json(method: Method) -> str:
    try:
        return json.dumps(dict(method.fingerprint()), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise FailedError(f"the fingerprint is not JSON: {error}") from error


def _varied(
    name: str,
    args: Mapping[str, object],
    silent: frozenset[str],
    *,
    device: str,
    dtype: str,
) -> tuple[Method | None, str]:
    """The same method with one parameter changed, or why there is none.

    Parameters in `silent` are left alone: the method says that they move no pixel, such as a
    time-out.
    """
    for parameter in method_parameters(name).values():
        if parameter.name in silent:
            continue
        for value in _other_values(parameter, args.get(parameter.name)):
            try:
                varied = {**args, parameter.name: value}
                return build(name, varied, device=device, dtype=dtype), parameter.name
            except ValueError:  # outside the range of the parameter
                continue
    return None, "no parameter of a number, a switch or a choice to vary"


def _other_values(parameter: Parameter, given: object) -> list[object]:
    choices = get_args(parameter.annotation)
    if choices and all(isinstance(choice, str) for choice in choices):
        return [choice for choice in choices if choice != (given or parameter.default)]
    value = _number(given, parameter.default)
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1]
    if isinstance(value, float):
        return [value * 0.5 + 0.01, value + 0.01, value - 0.01]
    return [1.0] if float in choices and given is None else []


def _number(given: object, default: object) -> bool | int | float | None:
    """The present value of a parameter if it is a switch or a number."""
    if isinstance(given, bool | int | float):
        return given
    if not isinstance(default, bool | int | float):
        return None
    if given is None:
        return default
    try:  # text from a command line
        return type(default)(str(given)) if not isinstance(default, bool) else None
    except ValueError:
        return None
