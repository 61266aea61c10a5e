"""Checks the package table against the folders, and CI against README."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_folder_is_listed() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path: name for name, path in setuptools["package-dir"].items()}
    found = {
        ".".join((folders[top], *init.parent.relative_to(ROOT / top).parts))
        for top in folders
        for init in (ROOT / top).rglob("__init__.py")
    }
    assert found == set(setuptools["packages"])


def test_every_module_is_in_a_package() -> None:
    lost = [
        path
        for top in ("bench", "metrics", "methods", "prompts")
        for path in (ROOT / top).rglob("*.py")
        if not (path.parent / "__init__.py").exists()
    ]
    assert not lost


def test_ci_runs_the_test_command_of_readme() -> None:
    last = (ROOT / ".ci" / "run").read_text().strip().splitlines()[-1]
    assert f"\n{last}\n" in (ROOT / "README.md").read_text()


def test_top_level_holds_nothing_else() -> None:
    allowed = {
        "bench", "metrics", "methods", "prompts", "results", "tests", "pyproject.toml", "tox.ini",
        "README.md", "LICENSE", "CHANGELOG.md",
    }  # fmt: skip
    built = {"build", "dist", "runs"}
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert {name for name in found if not name.endswith(".egg-info")} - built == allowed
