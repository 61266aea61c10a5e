"""Secrets that are passed to a method or lie in the environment are in no file of a run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from idbench.cli import main
from idbench.prompts.files import sha256_of
from idbench.prompts.freezing import suite_of, write_suite
from idbench.prompts.references import identified, reference_of
from idbench.prompts.sources import folder_source
from idbench.redaction import redacted, redacted_text
from idbench.store import RunStore, find_runs

TOKEN = "hf_" + "Q7" * 17
METHOD = """
class Method:
    def __init__(self, api_key: str = "", hub: str = "", steps: int = 4) -> None:
        self.api_key, self.hub = api_key, hub

    def generate(self, requests):
        raise RuntimeError(f"401 for https://me:{self.api_key}@example.com/?token={self.hub}")
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGB", (8, 8), "teal").save(pictures / "0.png")
    reference = reference_of(
        path="0.png", sha256=sha256_of(pictures / "0.png"), source=folder_source(pictures)
    )
    case = identified(
        "one", 1, alias="a", kind="single_id", references=(reference,), prompt="a portrait"
    )
    write_suite(suite_of([case], name="one", kind="single_id"), tmp_path / "suite")
    return tmp_path / "suite"


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_arguments_are_recorded_without_their_secrets(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IDBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SOME_API_KEY", "environment-secret-4711")
    (tmp_path / "method.py").write_text(METHOD)
    code = main(
        [
            "generate", "--suite", str(suite), "--output", str(tmp_path / "runs"),
            "--method", f"python:{tmp_path}/method.py:Method",
            "--method-args", "api_key=correct-horse-1", f"hub={TOKEN}", "steps=7",
        ]
    )  # fmt: skip
    assert code == 1  # the method failed
    printed = capsys.readouterr()
    kept = everything(tmp_path / "runs")
    for secret in ("correct-horse-1", TOKEN, "environment-secret-4711"):
        assert secret.encode() not in kept
        assert secret not in printed.out + printed.err
    (run,) = find_runs([tmp_path / "runs"])
    document = json.loads((run / "run.json").read_text())
    assert document["method"]["args"] == {"api_key": "***", "hub": "***", "steps": "7"}
    with RunStore.open(run) as store:
        assert store.identity.key[:8] == run.name[-8:], "the run is found again"
        (failed,) = store.samples("failed")
    assert "https://***@example.com" in str(failed.detail)


def test_the_environment_and_options_of_a_program_are_not_recorded(
    suite: Path, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import json, sys\nprint(json.dumps({'idbench': 1}), flush=True)\n"
        "for line in sys.stdin:\n"
        "    request = json.loads(line)\n"
        "    answer = {'id': request['id'], 'ok': False, 'reason': 'refused', 'detail': 'no'}\n"
        "    print(json.dumps(answer), flush=True)\n"
    )
    environment = os.environ | {
        "IDBENCH_DATA": str(tmp_path / "data"),
        "MY_TOKEN": "environment-secret-4711",
    }
    command = f"command:{sys.executable} {program} --token correct-horse-1 --steps 3"
    ended = subprocess.run(
        [sys.executable, "-m", "idbench", "generate", "--suite", str(suite), "--output",
         str(tmp_path / "runs"), "--method", command],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 1, ended.stderr
    kept = everything(tmp_path / "runs")
    assert b"--steps 3" in kept
    assert b"correct-horse-1" not in kept
    assert b"environment-secret-4711" not in kept


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"wget --header {TOKEN}", "wget --header ***"),
        ("Authorization: Bearer abc.def.ghi", "Authorization: Bearer ***"),
        ("https://me:pass@example.com/x", "https://***@example.com/x"),
        ("prog --api-key 12ab --steps 4", "prog --api-key *** --steps 4"),
        ("Method(api_key=abc,steps=4)", "Method(api_key=***,steps=4)"),
        ("?token=abc&x=1", "?token=***&x=1"),
        ("Method(identity_token=16)", "Method(identity_token=16)"),
        ("a token of love: a bearer of news", "a token of love: a bearer of news"),
        ("tokens=16, max_tokens=200", "tokens=16, max_tokens=200"),
        ("see https://example.com/a@b", "see https://example.com/a@b"),
    ],
)
def test_what_looks_like_a_secret_is_shown_as_stars(text: str, expected: str) -> None:
    assert redacted_text(text) == expected


def test_names_and_numbers() -> None:
    given = {"api_key": "x", "token": 3, "num_token": "16", "nested": [{"password": "y"}]}
    expected = {"api_key": "***", "token": 3, "num_token": "16", "nested": [{"password": "***"}]}
    assert redacted(given) == expected
