"""Parameters of a method: what its constructor takes, and arguments checked against that."""

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

# What the harness passes to constructors that take it; never an argument of the user.
HARNESS = ("device", "dtype")


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One keyword argument of a constructor. `annotation` is Any where the source says nothing."""

    name: str
    annotation: Any
    required: bool
    default: object = None

    @property
    def expected(self) -> str:
        """The type as the source spells it."""
        return inspect.formatannotation(self.annotation)


def parameters_of(factory: Callable[..., object], *, skip: int = 0) -> dict[str, Parameter]:
    """Keyword arguments that a class or function takes, in order, `device` and `dtype` excluded.

    An argument without an annotation has the type of its default, where that is a scalar. The
    first `skip` positional arguments are left out.
    """
    found: dict[str, Parameter] = {}
    hints = _hints(factory)
    for position, (name, entry) in enumerate(inspect.signature(factory).parameters.items()):
        if position < skip or name in HARNESS or entry.kind in _NOT_KEYWORD:
            continue
        annotation = hints.get(name, entry.annotation)
        if annotation is entry.empty or isinstance(annotation, str):
            scalar = isinstance(entry.default, bool | int | float | str)
            annotation = type(entry.default) if scalar else Any
        required = entry.default is entry.empty
        found[name] = Parameter(
            name=name,
            annotation=annotation,
            required=required,
            default=None if required else entry.default,
        )
    return found


def takes(factory: Callable[..., object], name: str) -> bool:
    """Whether `factory` has a keyword argument of this very name."""
    entry = inspect.signature(factory).parameters.get(name)
    return entry is not None and entry.kind not in _NOT_KEYWORD


def bind(
    factory: Callable[..., object], args: Mapping[str, object], *, method: str, skip: int = 0
) -> dict[str, Any]:
    """Checks `args` against the signature of `factory` and converts what came as text.

    Text is converted as a command line means it (`sigma=4`, `flip=true`, `sizes=[1,2]`,
    `sigma=none`); other values must already have the type, a whole number standing for a float.

    Raises:
        ValueError: If a key is unknown, a value has the wrong type or a required key is missing;
            the message names `method`, the key, and what is allowed.
    """
    known = parameters_of(factory, skip=skip)
    entries = inspect.signature(factory).parameters.values()
    open_ended = any(entry.kind is entry.VAR_KEYWORD for entry in entries)
    bound: dict[str, Any] = {}
    for key, value in args.items():
        if key in known:
            bound[key] = _convert(value, known[key], method=method)
        elif open_ended and key not in HARNESS:
            bound[key] = value
        else:
            hint = f"; the harness sets {key} itself" if key in HARNESS else ""
            raise ValueError(
                f"method {method!r} has no parameter {key!r}{hint}; allowed: {_listed(known)}"
            )
    missing = [entry.name for entry in known.values() if entry.required and entry.name not in bound]
    if missing:
        raise ValueError(
            f"method {method!r} needs a value for {', '.join(map(repr, missing))}; "
            f"parameters: {_listed(known)}"
        )
    return bound


_NOT_KEYWORD = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.VAR_POSITIONAL,
    inspect.Parameter.VAR_KEYWORD,
)


def _hints(factory: Callable[..., object]) -> dict[str, Any]:
    source = factory.__init__ if inspect.isclass(factory) else factory
    try:
        return typing.get_type_hints(source, include_extras=True)
    except (NameError, TypeError):  # names imported for type checkers only; callable objects
        return {}


def _listed(known: Mapping[str, Parameter]) -> str:
    return ", ".join(f"{entry.name} ({entry.expected})" for entry in known.values()) or "none"


def _convert(value: object, parameter: Parameter, *, method: str) -> Any:
    if parameter.annotation is Any:
        return value
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(
            parameter.annotation, config=ConfigDict(arbitrary_types_allowed=True)
        )
    except PydanticUserError:  # a dataclass or model brings its own configuration
        adapter = TypeAdapter(parameter.annotation)
    try:
        if not isinstance(value, str):
            return adapter.validate_python(value, strict=True)
        return _from_text(value, adapter)
    except ValidationError as error:
        why = "; ".join(problem["msg"] for problem in error.errors()[:3])
        raise ValueError(
            f"method {method!r}: parameter {parameter.name!r} must be {parameter.expected}, "
            f"got {value!r} ({why})"
        ) from None


def _from_text(text: str, adapter: TypeAdapter[Any]) -> Any:
    try:
        return adapter.validate_strings(text)
    except ValidationError as error:
        first = error
    json_text = "null" if text.lower() == "none" else text  # lists, maps and nothing at all
    try:
        return adapter.validate_json(json_text, strict=True)
    except ValidationError:
        raise first from None
