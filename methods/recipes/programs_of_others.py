"""Recipes of methods that live in their authors' repositories: what to install and what to call.

A recipe is one YAML file. It brings no code: the user installs the repository in an environment of
its own and writes a program that speaks `command`'s JSON lines (`idbench method program NAME`
prints one to start from).

    name: my-method                 # letters, digits, dots and dashes
    summary: one line for `idbench list methods`
    kinds: [single_id, multi_id]    # of requests that it can answer
    max_people: 2                   # in one image; 1 if left out
    base: sdxl                      # the model underneath, if there is one
    licence: of the weights
    rows: ["paper:table:row"]       # of the papers' tables that it stands for, if any
    reason: why it is a program and no pipeline here
    repository: https://github.com/somebody/my-method
    python: "3.10"
    install:                        # steps: commands, or what to fetch and where it goes
      - "git clone https://github.com/somebody/my-method && cd my-method"
      - "pip install -r requirements.txt"
    call: which class or script makes an image
"""

import json
from dataclasses import dataclass
from typing import Annotated

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from idbench.methods.common.yaml_text import read_yaml
from idbench.methods.protocol import Kind


@dataclass(frozen=True, kw_only=True, slots=True)
class ProgramRecipe:
    """A method of others; the module's docstring says what the fields are."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$")]
    summary: str
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)]
    licence: str
    reason: str
    repository: str
    python: str
    install: Annotated[tuple[str, ...], Field(min_length=1)]
    call: str
    base: str = ""
    rows: tuple[str, ...] = ()
    max_people: Annotated[int, Field(ge=1)] = 1


def read_program_recipe(text: str, where: str) -> ProgramRecipe:
    """The recipe in a YAML text; `where` begins every message.

    Raises:
        ValueError: If it is no YAML mapping, or a key is unknown, missing or of a wrong type; the
            message names the key.
    """
    try:
        document = read_yaml(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise ValueError(f"{where} must be a mapping of keys, such as `name: my-method`")
    try:
        # As JSON: in Python mode pydantic's strictness would refuse lists for tuples.
        return TypeAdapter(ProgramRecipe).validate_json(json.dumps(document))
    except ValidationError as error:
        lines = [
            f"{where}: {'.'.join(map(str, entry['loc']))}: {entry['msg']}"
            for entry in error.errors()
        ]
        raise ValueError("\n".join(lines)) from error


def checklist(recipe: ProgramRecipe) -> list[str]:
    """What a user does to run the method, one line each, numbered."""
    steps = [
        f"an environment of its own with Python {recipe.python}",
        *recipe.install,
        f"a program that calls {recipe.call} (idbench method program {recipe.name} > "
        f"{recipe.name.replace('-', '_')}.py prints one to start from)",
        f"idbench method check {recipe.name} --method-args "
        f"program='ENVIRONMENT/bin/python {recipe.name.replace('-', '_')}.py'",
    ]
    return [f"{number}. {step}" for number, step in enumerate(steps, 1)]
