"""Collects the units of a reading together with the problems of their files."""

from collections.abc import Mapping
from pathlib import Path

from idbench.prompts.acquisition.network import FetchError
from idbench.prompts.formats.paths import PathRules, RefusedPathError
from idbench.prompts.formats.unit import Problem, ProblemKind, Reading, Unit


class Collected:
    """Finds the files of each row and remembers why some cannot be used."""

    def __init__(self, rules: PathRules) -> None:
        """Starts with nothing."""
        self.rules = rules
        self.units: list[Unit] = []
        self.problems: list[Problem] = []
        self.rows = 0

    def find(self, text: str, where: str, what: str) -> Path | None:
        """The file that `text` names, or None with a problem noted."""
        try:
            found = self.rules.find(text)
        except RefusedPathError as error:
            self.note("refused", where, f"{what}: {error}")
            return None
        except FetchError as error:
            self.note("missing", where, f"{what}: {error}")
            return None
        if found is None:
            self.note("missing", where, f"{what} {text}")
        return found

    def note(self, kind: ProblemKind, where: str, detail: str) -> None:
        """Notes a problem."""
        self.problems.append(Problem(kind=kind, where=where, detail=detail))

    def reading(
        self, *, parameters: Mapping[str, str] | None = None, notes: tuple[str, ...] = ()
    ) -> Reading:
        """What was collected."""
        return Reading(
            units=tuple(self.units),
            rows=self.rows,
            problems=tuple(self.problems),
            parameters=parameters or {},
            notes=notes,
        )
