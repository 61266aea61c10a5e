"""The command line: exit codes, one-line errors, and lists that read well at 80 columns."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import idbench
from idbench.cli import VERBS, main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_help_lists_every_verb_within_80_columns() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "idbench", "--help"],
        check=True, capture_output=True, text=True, env={"COLUMNS": "80", "PATH": ""},
    )  # fmt: skip
    assert all(f"  {verb} " in done.stdout for verb in VERBS)
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"idbench {idbench.__version__}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    assert f"idbench {verb}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["run", "--limit", "x"]])
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "known"),
    [
        (["run", "--suite", "demoo", "--method", "copy"], "tiny-single"),
        (["run", "--suite", "demo", "--method", "coppy"], "did you mean 'copy'"),
        (["run", "--suite", "demo", "--method", "copy", "--metrics", "facesimm"], "landmarkdiff"),
        (["run", "--suite", "demo", "--method", "blur", "--method-args", "sgma=1"], "sigma"),
        (["run", "--suite", "demo", "--method-args", "sigma=1"], "needs a --method"),
        (["list", "suites", "nothing*"], "tiny-single"),
        (["table", "absent"], "run.json"),
        (["score", "absent"], "run.json"),
    ],
)
def test_an_unknown_name_is_one_line_with_the_known_ones(
    arguments: list[str],
    known: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IDBENCH_DATA", str(tmp_path / "data"))
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"idbench {arguments[0]}: error: ")
    assert known in err
    assert "Traceback" not in err


@pytest.mark.parametrize("what", ["methods", "suites", "metrics"])
def test_lists_fit_80_columns_and_have_a_json_form(
    what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "list", what)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    _, out, _ = run(capsys, "list", what, "--json")
    entries = json.loads(out)
    assert {"name", "summary", "missing"} <= entries[0].keys()


def test_doctor_names_extras_and_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "doctor")
    assert code == 0
    assert "  embedded   complete" in out
    assert idbench.__version__ in out
