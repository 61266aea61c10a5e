"""`kill -9` at random moments: the same table as an uninterrupted run, and nothing made twice."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("dlib", reason="needs the embedded extra")

KILLS = 10
METHOD = """
    import time
    from pathlib import Path

    class Method:
        def generate(self, requests):
            with Path(__file__).with_name("made.txt").open("a") as log:
                log.writelines(f"{request.case_id}\\n" for request in requests)
            time.sleep(0.05)
            return [request.references[0].image for request in requests]
"""


def start(folder: Path) -> "subprocess.Popen[bytes]":
    command = [
        sys.executable, "-m", "idbench", "run", "--suite", "demo", "--output", str(folder / "runs"),
        "--method", f"python:{folder}/method.py:Method", "--method", "mirror",
        "--batch-size", "1", "--workers", "1", "--limit", "8",
    ]  # fmt: skip
    environment = os.environ | {"IDBENCH_DATA": str(folder / "data"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


def recorded(folder: Path) -> Counter[str]:
    """Images in the database of the logging method's run."""
    found: Counter[str] = Counter()
    for path in (folder / "runs").rglob("run.sqlite"):
        if path.parent.name.startswith("Method"):
            database = sqlite3.connect(path)
            try:
                rows = database.execute("SELECT case_id FROM samples WHERE status = 'ok'")
                found.update(case_id for (case_id,) in rows)
            except sqlite3.OperationalError:
                pass  # killed before the first plan
            finally:
                database.close()
    return found


def made(folder: Path) -> list[str]:
    log = folder / "made.txt"
    return log.read_text().splitlines() if log.exists() else []


def finish(process: "subprocess.Popen[bytes]") -> bytes:
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return out


def prepare(folder: Path) -> Path:
    folder.mkdir()
    (folder / "method.py").write_text(textwrap.dedent(METHOD))
    return folder


def interrupted(folder: Path, pauses: Sequence[float]) -> bytes:
    """The output of the run that is left alone, after one kill per pause."""
    for pause in pauses:
        known, before = recorded(folder), len(made(folder))
        process = start(folder)
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not set(made(folder)[before:]) & set(known)
    known, before = recorded(folder), len(made(folder))
    out = finish(start(folder))
    assert not set(made(folder)[before:]) & set(known)
    return out


@pytest.mark.slow
def test_ten_kills_leave_no_trace(tmp_path: Path) -> None:
    whole = prepare(tmp_path / "whole")
    began = time.monotonic()
    expected = finish(start(whole))
    seconds = time.monotonic() - began
    assert len(made(whole)) == 8
    chance = random.Random(20261121)
    pauses = [chance.uniform(0.3, seconds) for _ in range(KILLS)]
    assert interrupted(prepare(tmp_path / "killed"), pauses) == expected


def test_kills_while_generating_and_scoring(tmp_path: Path) -> None:
    whole = prepare(tmp_path / "whole")
    began = time.monotonic()
    expected = finish(start(whole))
    seconds = time.monotonic() - began
    pauses = [0.25 * seconds, 0.7 * seconds]
    assert interrupted(prepare(tmp_path / "killed"), pauses) == expected
