"""One run begun here, killed, continued on Ray, killed, finished as two shards: the same table."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("dlib", reason="needs the embedded extra")
pytest.importorskip("ray", reason="needs the ray extra")

CASES = 9
METHOD = """
    import time
    from pathlib import Path

    class Method:
        def generate(self, requests):
            with Path(__file__).with_name("made.txt").open("a") as log:
                log.writelines(f"{request.case_id}\\n" for request in requests)
            time.sleep(0.5)
            return [request.references[0].image.rotate(request.seed % 7) for request in requests]
"""


def idbench(folder: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    environment = os.environ | {"IDBENCH_DATA": str(folder / "data"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "idbench", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def run(folder: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    return idbench(
        folder, "run", "--suite", "demo", "--method", "python:method.py:Method", "--metrics",
        "facesim@strict[dlib]", "--limit", str(CASES), "--batch-size", "1", "--workers", "1",
        *arguments,
    )  # fmt: skip


def finish(process: "subprocess.Popen[bytes]") -> bytes:
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()
    return out


def recorded(folder: Path) -> list[str]:
    """The cases whose images are on record in the whole run."""
    (path,) = list((folder / "runs" / "demo").rglob("run.sqlite")) or [None]
    if path is None:
        return []
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
    try:
        return [c for (c,) in database.execute("SELECT case_id FROM samples WHERE status = 'ok'")]
    except sqlite3.OperationalError:  # not planned yet
        return []
    finally:
        database.close()


def kill_when(folder: Path, process: "subprocess.Popen[bytes]", count: int) -> None:
    """Kills the driver as soon as `count` images are on record."""
    end = time.monotonic() + 240
    while len(recorded(folder)) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def prepare(folder: Path) -> Path:
    folder.mkdir()
    (folder / "method.py").write_text(textwrap.dedent(METHOD))
    return folder


def test_a_run_goes_on_wherever_it_is_continued(tmp_path: Path) -> None:
    whole = prepare(tmp_path / "whole")
    expected = finish(run(whole))

    folder = prepare(tmp_path / "moved")
    kill_when(folder, run(folder), 2)
    first = recorded(folder)
    assert 2 <= len(first) < CASES
    kill_when(folder, run(folder, "--executor", "ray"), len(first) + 2)
    second = recorded(folder)
    assert set(first) < set(second)
    assert len(second) < CASES
    for shard in ("2/2", "1/2"):
        finish(run(folder, "--shard", shard))
    for _ in range(2):  # the second time there is nothing to do
        finish(idbench(folder, "merge", "runs"))
    finish(idbench(folder, "score", "runs", "--metrics", "facesim@strict[dlib]", "--workers", "1"))
    assert finish(idbench(folder, "table", "runs")) == expected
    # A kill costs what was in flight, on Ray two batches of one; the rest was made once.
    made = Counter((folder / "made.txt").read_text().split())
    assert sorted(made) == sorted((whole / "made.txt").read_text().split())
    assert made.total() <= CASES + 1 + 2
