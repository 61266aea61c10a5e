"""`program:RECIPE`: a method of others, run by the user's program in an environment of its own."""

import inspect
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from idbench.methods.protocol import Capabilities, Failure, Request
from idbench.methods.recipes import program_template
from idbench.methods.recipes.catalogue import program_text
from idbench.methods.recipes.programs_of_others import (
    ProgramRecipe,
    checklist,
    read_program_recipe,
)
from idbench.methods.wrappers.command import Command

VERSION = 1  # raised with every change that moves a pixel


class ProgramMethod:
    """A recipe and the program that follows it; `command` says how they talk."""

    MOVES_NO_PIXEL = Command.MOVES_NO_PIXEL

    def __init__(
        self,
        *,
        recipe: str,
        program: str | None = None,
        timeout: float = 600.0,
        start_timeout: float = 120.0,
        cwd: Path | None = None,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        """Reads the recipe; nothing is started yet.

        Args:
            recipe: A name of `idbench list methods`, or the path of a YAML file.
            program: Command line of the program, such as "/envs/uno/bin/python uno.py".
            timeout: Seconds that one request may take.
            start_timeout: Seconds until the program has said hello.
            cwd: Folder to run in, such as that of the repository; the current one by default.
            device: Passed on as IDBENCH_DEVICE.
            dtype: Passed on as IDBENCH_DTYPE.

        Raises:
            LookupError: If there is no such recipe.
            FileNotFoundError: If there is no such file.
            ValueError: If the recipe is wrong, or there is no program: the message says what to
                install.
        """
        self.recipe = read_program_recipe(*program_text(recipe))
        if not program:
            raise ValueError("\n  ".join([_ABSENT.format(name=recipe), *checklist(self.recipe)]))
        self._command = Command(
            command=program,
            timeout=timeout,
            start_timeout=start_timeout,
            cwd=cwd,
            device=device,
            dtype=dtype,
        )

    @property
    def name(self) -> str:
        """What tables call it: the recipe's name, whatever the program says."""
        return self.recipe.name

    @property
    def capabilities(self) -> Capabilities:
        """What the program says it can do.

        Raises:
            ProgramError: If the program cannot be started or does not say hello.
        """
        return self._command.capabilities

    def fingerprint(self) -> Mapping[str, object]:
        """The recipe's name, and all that is known of the program.

        Raises:
            ProgramError: If the program cannot be started or does not say hello.
        """
        program = dict(self._command.fingerprint())
        return {"method": "program", "version": VERSION, "recipe": self.name, "program": program}

    def generate(self, requests: Sequence[Request]) -> list[Image.Image | Failure]:
        """One RGB image or failure per request, in order."""
        return self._command.generate(requests)

    def close(self) -> None:
        """Ends the program, if it runs."""
        self._command.close()


_ABSENT = "program: {name} runs in an environment of its own, and no program was given. To do:"


def program_source(name: str) -> str:
    """A program to start from, for a recipe: it works, and its two functions are to be replaced.

    Args:
        name: A name of `idbench list methods`, or the path of a YAML file.

    Raises:
        LookupError: If there is no such recipe.
        FileNotFoundError: If there is no such file.
        ValueError: If the recipe is wrong.
    """
    recipe = read_program_recipe(*program_text(name))
    source = inspect.getsource(program_template)
    source = source.split('"""', 2)[2]
    source = source.replace('NAME = "template"', f'NAME = "{recipe.name}"')
    kinds = ", ".join(f'"{kind}"' for kind in recipe.kinds)
    source = source.replace('KINDS = ["single_id"]', f"KINDS = [{kinds}]")
    source = source.replace("MAX_PEOPLE = 1", f"MAX_PEOPLE = {recipe.max_people}")
    return f'"""{_docstring(recipe)}\n"""{source}'


def _docstring(recipe: ProgramRecipe) -> str:
    lines = [f"{recipe.name} for idbench, run in an environment of its own.", ""]
    lines += textwrap.wrap(f"{recipe.repository}; weights: {recipe.licence}.", 98)
    lines.append("")
    for step in checklist(recipe):
        lines += textwrap.wrap(step, 98, subsequent_indent="   ", break_on_hyphens=False)
    lines += ["", "Replace `load` and `make`; as they are, they tint the reference."]
    return "\n".join(lines).replace("\\", "\\\\")
