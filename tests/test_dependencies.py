"""Checks the direction of the imports between the packages."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "metrics": ("idbench.metrics",),
    "methods": ("idbench.methods",),
    "prompts": ("idbench.prompts",),
}


def imports_outside(source: str, allowed: tuple[str, ...]) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return [n for n in names if n.split(".")[0] == "idbench" and not n.startswith(allowed)]


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_stay_inside(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        outside = imports_outside(path.read_text(encoding="utf-8"), ALLOWED[folder])
        assert not outside, f"{path.relative_to(ROOT)} imports {outside}"


def test_the_rule_can_fail() -> None:
    assert imports_outside("import idbench.cli", ALLOWED["metrics"]) == ["idbench.cli"]
