"""Arguments become parameters strictly, and errors name the method, the key and what is allowed."""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from idbench.methods.parameters import bind, parameters_of, takes


@dataclass(frozen=True, kw_only=True)
class Example:
    sigma: float = 4.0
    steps: int = 20
    flip: bool = False
    mode: Literal["soft", "hard"] = "soft"
    limit: float | None = None
    folder: Path | None = None
    sizes: tuple[int, ...] = ()
    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    device: str = "cpu"
    dtype: str = "float32"
    hidden: int = field(default=1, init=False)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("sigma", "4", 4.0),
        ("sigma", "1e-3", 0.001),
        ("steps", "30", 30),
        ("flip", "true", True),
        ("flip", "0", False),
        ("mode", "hard", "hard"),
        ("limit", "none", None),
        ("limit", "null", None),
        ("limit", "2.5", 2.5),
        ("folder", "a/b", Path("a/b")),
        ("sizes", "[1, 2]", (1, 2)),
    ],
)
def test_text_is_converted(key, text, value):
    bound = bind(Example, {key: text}, method="example")
    assert bound == {key: value}
    assert type(bound[key]) is type(value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("sigma", 4.5), ("sigma", 4), ("steps", 3), ("flip", True), ("limit", None)],
)
def test_typed_values_pass(key, value):
    assert bind(Example, {key: value}, method="example") == {key: value}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("sigma", "wide", "float"),
        ("sigma", "none", "float"),
        ("sigma", True, "float"),
        ("sigma", [1.0], "float"),
        ("steps", "2.5", "int"),
        ("steps", 2.5, "int"),
        ("steps", True, "int"),
        ("flip", "perhaps", "bool"),
        ("flip", 1, "bool"),
        ("mode", "loud", "soft"),
        ("share", "1.5", "less than or equal to 1"),
    ],
)
def test_a_wrong_type_names_key_value_and_expectation(key, value, expected):
    with pytest.raises(ValueError, match=key) as caught:
        bind(Example, {key: value}, method="example")
    assert "'example'" in str(caught.value)
    assert repr(value) in str(caught.value)
    assert expected in str(caught.value)


def test_an_unknown_key_names_the_allowed_ones():
    with pytest.raises(ValueError, match="method 'example' has no parameter 'sigmas'") as caught:
        bind(Example, {"sigmas": 3}, method="example")
    assert "sigma (float), steps (int)" in str(caught.value)


@pytest.mark.parametrize("key", ["device", "dtype", "hidden"])
def test_what_the_harness_sets_is_no_parameter(key):
    assert key not in parameters_of(Example)
    with pytest.raises(ValueError, match=f"no parameter '{key}'"):
        bind(Example, {key: "x"}, method="example")


def test_a_missing_required_key_is_named():
    def method(request, folder: Path, count: int = 1):
        return request, folder, count

    assert list(parameters_of(method, skip=1)) == ["folder", "count"]
    with pytest.raises(ValueError, match="method 'm' needs a value for 'folder'"):
        bind(method, {"count": "2"}, method="m", skip=1)


def test_a_default_stands_for_a_missing_annotation():
    def method(request, count=3, mark="x", anything=None):
        return request, count, mark, anything

    bound = bind(method, {"count": "4", "mark": "5", "anything": "6"}, method="m", skip=1)
    assert bound == {"count": 4, "mark": "5", "anything": "6"}


def test_open_ended_functions_take_any_key_but_the_harness_ones():
    def method(request, **options):
        return request, options

    assert bind(method, {"a": 1}, method="m", skip=1) == {"a": 1}
    with pytest.raises(ValueError, match="the harness sets device itself"):
        bind(method, {"device": "cuda"}, method="m", skip=1)


def test_takes_sees_keyword_arguments_only():
    assert takes(Example, "device")
    assert not takes(Example, "hidden")
    assert not takes(lambda *device, **dtype: None, "device")
    assert not takes(functools.partial(Example), "nothing")
