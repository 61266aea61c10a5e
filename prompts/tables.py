"""The tables that ship with the package, read by name."""

import csv
import io
from importlib.resources import files


def table(name: str) -> list[dict[str, str]]:
    """Rows of `data/<name>.csv` inside the package."""
    text = (files("idbench.prompts") / "data" / f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))
