"""README shows what is there: the demo's real table, and an example that runs."""

import re
from pathlib import Path

import pytest

from idbench.cli import main
from idbench.config import read_config
from idbench.metrics.registry import missing_requirements

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, containing: str) -> str:
    found = [
        text
        for text in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
        if containing in text
    ]
    assert len(found) == 1, f"one {language} block of README should hold {containing!r}"
    return found[0]


def test_the_table_is_the_one_of_the_results() -> None:
    table = (ROOT / "results" / "demo" / "table.txt").read_text(encoding="utf-8")
    assert block("text", "suite demo").strip() == table.strip()


def test_the_configuration_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(block("yaml", "methods:"), encoding="utf-8")
    config = read_config(path, {})
    assert [spec.name for spec in config.method_specs()] == [
        "copy", "blur", "python:mosaic.py:Mosaic",
    ]  # fmt: skip


@pytest.mark.skipif(bool(missing_requirements("dlib_face")), reason="needs the embedded extra")
def test_the_method_of_fifteen_lines_shows_up_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = block("python", "class Mosaic")
    assert len(source.splitlines()) <= 15
    (tmp_path / "mosaic.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IDBENCH_DATA", str(tmp_path / "data"))
    code = main(
        [
            "run", "--suite", "demo", "--limit", "3", "--workers", "1",
            "--metrics", "facesim[dlib]",
            "--method", "python:mosaic.py:Mosaic", "--method", "copy",
        ]
    )  # fmt: skip
    out = capsys.readouterr().out
    assert code == 0
    assert re.search(r"^Mosaic +0\.\d+", out, re.MULTILINE)
    assert "Every number stands on 3/3 samples." in out
    assert main(["method", "check", "python:mosaic.py:Mosaic"]) == 0
