"""Names of methods: an explicit table, what plug-ins add to it, and how a name becomes a method."""

import difflib
import importlib
import logging
import operator
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any

from idbench.methods.protocol import Method, MethodInfo
from idbench.methods.recipes.catalogue import recipe_infos
from idbench.methods.recipes.images_only import IMAGES_ONLY
from idbench.methods.table import PREFIXES, TABLE

if TYPE_CHECKING:
    from idbench.methods.parameters import Parameter

ENTRY_POINTS = "idbench.methods"

_log = logging.getLogger(__name__)


def list_methods() -> list[MethodInfo]:
    """Every method there is: the table, the recipes, then what installed plug-ins add, by name.

    Imports no method. A plug-in that takes the name of a method of the package is left out.
    """
    return [*_own(), *(_plug_in_info(entry) for entry in _plug_ins())]


def method_info(name: str) -> MethodInfo:
    """What is known of a method before it is imported; `name` as in `build`.

    Raises:
        LookupError: If there is no such method; the message lists the known ones.
    """
    methods = {info.name: info for info in list_methods()}
    if name in methods:
        return methods[name]
    prefix, colon, rest = name.partition(":")
    if colon and rest and prefix in PREFIXES:
        return methods[prefix]
    close = difflib.get_close_matches(name, methods, n=1)
    suggestion = f"did you mean {close[0]!r}? " if close else ""
    raise LookupError(f"unknown method {name!r}; {suggestion}known: {', '.join(sorted(methods))}")


def method_parameters(name: str) -> dict[str, "Parameter"]:
    """The parameters that `build` accepts for this name; imports the method.

    Raises:
        LookupError: If there is no such method.
        ImportError: If its module needs packages that are not installed.
    """
    # pydantic and the wrappers are imported on use: a list of methods should cost nothing.
    from idbench.methods.parameters import parameters_of
    from idbench.methods.wrappers.python import user_parameters

    info, given = _resolved(name, {})
    if info.name == "python":
        return user_parameters(str(given["target"])) if "target" in given else {}
    if _is_plug_in(info):
        return user_parameters(info.target)
    known = parameters_of(_load(info))
    return {key: entry for key, entry in known.items() if key not in given}


def build(
    name: str,
    args: Mapping[str, object] | None = None,
    *,
    device: str = "cpu",
    dtype: str = "float32",
) -> Method:
    """A method by name, ready to be asked.

    Args:
        name: A name of `list_methods`, "images:DIR", "python:module:Name",
            "python:file.py:Name", "command:PROGRAM ARGUMENTS", "http:SERVICE" or
            "comfyui:WORKFLOW.json".
        args: Values of its parameters: text as a command line gives it, or values with their types.
        device: Passed to a constructor that takes `device`.
        dtype: Passed to a constructor that takes `dtype`; the name of a torch dtype.

    Raises:
        LookupError: If there is no such method; the message lists the known ones.
        ImportError: If its module needs packages that are not installed; the message says which
            extra brings them.
        ValueError: If a parameter is unknown, missing, or has a wrong type or value.
    """
    from idbench.methods.parameters import bind, takes
    from idbench.methods.wrappers.python import PythonMethod, user_method

    info, given = _resolved(name, args or {})
    if info.name == "python":
        target = str(given.pop("target", ""))
        return PythonMethod(target=target, args=given, device=device, dtype=dtype)
    if _is_plug_in(info):
        return user_method(info.target, given, name=info.name, device=device, dtype=dtype)
    constructor = _load(info)
    values = bind(constructor, given, method=info.name)
    for key, value in (("device", device), ("dtype", dtype)):
        if takes(constructor, key):
            values[key] = value
    try:
        built: Method = constructor(**values)
    except ValueError as error:
        raise ValueError(f"method {info.name!r}: {error}") from error
    return built


def _resolved(name: str, args: Mapping[str, object]) -> tuple[MethodInfo, dict[str, object]]:
    """The method of a name, and `args` with what the name itself carries after the colon."""
    info = method_info(name)
    fixed = dict(info.given)
    if name != info.name:
        fixed[PREFIXES[info.name]] = name.partition(":")[2]
    for key in fixed:
        if key in args:
            raise ValueError(f"method {name!r} names its {key!r} already; leave {key!r} out")
    return info, {**args, **fixed}


def _load(info: MethodInfo) -> Callable[..., Any]:
    module, _, path = info.target.partition(":")
    try:
        found: Callable[..., Any] = operator.attrgetter(path)(importlib.import_module(module))
    except ImportError as error:
        if not info.extras:
            raise
        extras = ",".join(info.extras)
        raise ImportError(
            f"method {info.name!r} needs {error.name or error}; install it with "
            f"`pip install 'idbench[{extras}]'`"
        ) from error
    return found


def _plug_ins() -> list[metadata.EntryPoint]:
    taken = {info.name for info in _own()}
    found: dict[str, metadata.EntryPoint] = {}
    for entry in sorted(metadata.entry_points(group=ENTRY_POINTS)):
        if entry.name in taken or entry.name in found:
            _log.warning("plug-in method %r of %s: the name is taken", entry.name, entry.value)
        else:
            found[entry.name] = entry
    return list(found.values())


def _plug_in_info(entry: metadata.EntryPoint) -> MethodInfo:
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.module
    target = f"{entry.module}:{entry.attr}"
    return MethodInfo(name=entry.name, target=target, summary=f"plug-in of {package}")


def _own() -> tuple[MethodInfo, ...]:
    """The methods of the package."""
    return (*TABLE, *recipe_infos(), *IMAGES_ONLY)


def _is_plug_in(info: MethodInfo) -> bool:
    return info not in _own()
