"""`python`: a class or a function of the user's own.

`python:package.module:Name` imports an installed module, `python:path/to/file.py:Name` a file. The
name is one of

- a function of one request: `def name(request, strength: float = 1.0)`,
- a class whose instances are called with one request,
- a class with `generate(requests)` that answers a whole batch, one answer per request.

An answer is a Pillow image, an array (`height width 3`, uint8 or floating in [0, 1]) or a
`Failure`. Parameters (`strength`) are keyword arguments of the function or of the constructor; a
constructor that takes `device` or `dtype` gets those of the run. A class may have `name`,
`capabilities` and `fingerprint()`; without capabilities it is asked for one person per image, one
request at a time if it is called per request.

The fingerprint holds the parameters and the sha256 of the file that defines the name. What that
file imports or loads is not seen: a method with weights says so in a `fingerprint()` of its own.
"""

import functools
import hashlib
import importlib
import importlib.util
import inspect
import operator
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image
from pydantic_core import to_jsonable_python

from idbench.methods.parameters import Parameter, bind, parameters_of, takes
from idbench.methods.protocol import Capabilities, Failure, Method, Request
from idbench.methods.wrappers.answers import as_image, sized, slug


class PythonMethod:
    """A user's class or function as a method.

    Attributes:
        inner: The instance, or the function with its parameters.
    """

    def __init__(
        self,
        *,
        target: str,
        args: Mapping[str, object] | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        name: str = "",
    ) -> None:
        """Imports `target` and constructs it.

        Raises:
            ImportError: If the module cannot be imported.
            LookupError: If it has no such name.
            ValueError: If `target` is malformed, `args` do not fit, or the name is no method.
        """
        found, files = _found(target)
        shown = name or target.rpartition(":")[2]
        self._label = slug(name or getattr(found, "__name__", shown))
        self._source = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
        self._target = target.rpartition(":")[2]
        self._parameters: dict[str, object] = {}
        self.inner = self._constructed(found, args or {}, shown, device, dtype)

    def _constructed(
        self, found: Any, args: Mapping[str, object], shown: str, device: str, dtype: str
    ) -> Any:
        if not inspect.isclass(found) and not inspect.isroutine(found):
            if args:
                raise ValueError(f"{shown} is an object, not a class: it takes no parameters")
            return _asked(found, shown)
        skip = 0 if inspect.isclass(found) else 1
        values = bind(found, args, method=shown, skip=skip)
        known = parameters_of(found, skip=skip).values()
        self._parameters = {entry.name: entry.default for entry in known if not entry.required}
        self._parameters |= values
        if takes(found, "dtype"):
            self._parameters["dtype"] = values["dtype"] = dtype
        if takes(found, "device"):
            values["device"] = device
        if inspect.isclass(found):
            return _asked(found(**values), shown)
        return functools.partial(found, **values)

    @property
    def name(self) -> str:
        """The name that the class gives itself, else its own."""
        given = getattr(self.inner, "name", None)
        return slug(given) if isinstance(given, str) and given else self._label

    @property
    def capabilities(self) -> Capabilities:
        """Those of the class; without, one person per image."""
        given = getattr(self.inner, "capabilities", None)
        return given if isinstance(given, Capabilities) else Capabilities()

    def fingerprint(self) -> Mapping[str, object]:
        """The source by sha256, the parameters, and what the class says of itself."""
        own = getattr(self.inner, "fingerprint", None)
        return {
            "method": "python",
            "version": 1,
            "target": self._target,
            "source_sha256": self._source,
            "parameters": to_jsonable_python(self._parameters, fallback=repr),
            "own": to_jsonable_python(own(), fallback=repr) if callable(own) else None,
        }

    def generate(self, requests: Sequence[Request]) -> list[Image.Image | Failure]:
        """One RGB image or failure per request, in order.

        What `generate` of a class raises goes through. Where requests are asked one by one, an
        error is the failure of its request, so that the others keep their images.
        """
        # The code may paint on what it is given; the harness shares references between requests.
        given = [_with_own_images(request) for request in requests]
        if not hasattr(self.inner, "generate"):
            return [self._one(request) for request in given]
        answers = self.inner.generate(given)
        answers = [] if answers is None else list(answers)
        if len(answers) != len(given):
            failure = Failure(
                "wrong_count", f"{len(answers)} answers to {len(given)} requests: which is whose?"
            )
            return [failure] * len(given)
        return [
            sized(as_image(answer), request.width, request.height)
            for answer, request in zip(answers, given, strict=True)
        ]

    def _one(self, request: Request) -> Image.Image | Failure:
        try:
            return sized(as_image(self.inner(request)), request.width, request.height)
        except Exception as error:  # any error of foreign code is the failure of this sample
            return Failure("error", f"{type(error).__name__}: {error}")


def user_method(
    target: str, args: Mapping[str, object], *, name: str, device: str, dtype: str
) -> Method:
    """The method of a plug-in: the object itself where it is a whole `Method`, else wrapped.

    Raises:
        ImportError: If the module cannot be imported.
        LookupError: If it has no such name.
        ValueError: If `args` do not fit.
    """
    wrapped = PythonMethod(target=target, args=args, device=device, dtype=dtype, name=name)
    return wrapped.inner if isinstance(wrapped.inner, Method) else wrapped


def user_parameters(target: str) -> dict[str, Parameter]:
    """The parameters of a user's class or function; none for an object.

    Raises:
        ImportError: If the module cannot be imported.
        LookupError: If it has no such name.
    """
    found, _ = _found(target)
    if inspect.isclass(found):
        return parameters_of(found)
    return parameters_of(found, skip=1) if inspect.isroutine(found) else {}


def _asked(instance: object, shown: str) -> object:
    if not hasattr(instance, "generate") and not callable(instance):
        raise ValueError(f"{shown} has neither generate(requests) nor __call__(request)")
    return instance


def _with_own_images(request: Request) -> Request:
    references = tuple(
        replace(reference, image=reference.image.copy()) for reference in request.references
    )
    edit, distractor = request.edit, request.distractor
    if edit is not None:
        edit = replace(edit, original=edit.original.copy(), edited=edit.edited.copy())
    if distractor is not None:
        distractor = replace(distractor, image=distractor.image.copy())
    return replace(request, references=references, edit=edit, distractor=distractor)


def _found(target: str) -> tuple[Any, list[Path]]:
    """What `target` names, and the files that define it."""
    place, colon, name = target.rpartition(":")
    if not (colon and place and name):
        raise ValueError(
            f"a python method is written python:module:Name or python:file.py:Name, got {target!r}"
        )
    module = _module_of_file(Path(place)) if place.endswith(".py") else _module(place)
    try:
        found = operator.attrgetter(name)(module)
    except AttributeError:
        public = [
            key
            for key, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", None) == module.__name__
        ]
        known = ", ".join(sorted(public)) or "nothing that can be called"
        raise LookupError(f"{place} has no {name!r}; it defines {known}") from None
    files = [module.__file__, getattr(_home(found), "__file__", None)]
    return found, [Path(file) for file in dict.fromkeys(files) if file]


def _home(found: object) -> ModuleType | None:
    return sys.modules.get(getattr(found, "__module__", None) or "")


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        # Whatever foreign code raises while it is imported means the same to the user.
        hint = ""
        if isinstance(error, ModuleNotFoundError) and name.split(".")[0] == error.name:
            hint = "; install it, or name the file: python:path/to/file.py:Name"
        raise ImportError(f"cannot import {name}: {_described(error)}{hint}") from error


def _module_of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ImportError(f"there is no file {path}")
    content = path.read_bytes()
    key = hashlib.sha256(str(path.resolve()).encode() + b"\0" + content).hexdigest()[:16]
    name = f"idbench_user_{key}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    # As with `python file.py`, the file may import its neighbours; last, so that they hide nothing.
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        # Not `exec_module`: its cached bytecode is told apart by size and whole seconds only.
        exec(compile(content, str(path.resolve()), "exec"), module.__dict__)
    except Exception as error:
        del sys.modules[name]
        raise ImportError(f"cannot import {path}: {_described(error)}") from error
    return module


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
