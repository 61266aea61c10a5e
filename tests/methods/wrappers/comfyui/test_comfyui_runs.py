"""Whole runs of a workflow: table, kill, a workflow that the server does not take."""

import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from idbench.cli import main

pytest.importorskip("dlib", reason="needs the embedded extra")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IDBENCH_DATA", str(tmp_path / "data"))


def arguments(verb, name, comfy, *more, limit):
    return [
        verb, "--suite", "demo", "--limit", str(limit), "--output", "runs", "--method", name, *more,
        "--method-args", f"url={comfy.url}", "first_wait=0.01",
    ]  # fmt: skip


def samples(folder):
    (path,) = folder.rglob("run.sqlite")
    database = sqlite3.connect(path)
    found = database.execute("SELECT status, reason FROM samples ORDER BY case_id").fetchall()
    database.close()
    return found


def test_a_run_ends_in_a_table_and_is_not_made_again(
    comfy, workflow, workflow_graph, tmp_path, capfd
):
    graph = workflow_graph()
    graph["5"]["inputs"].update(width=384, height=384)  # large enough to find the face
    name = workflow(graph)
    comfy.faults = ["error"]
    more = ("--metrics", "facesim@strict[dlib]", "--max-failures", "0.5")
    assert main(arguments("run", name, comfy, *more, limit=3)) == 0
    out, err = capfd.readouterr()
    assert "portrait" in out
    assert "2/3" in out
    assert "node 'seed' (KSampler, 3): RuntimeError: shapes differ" in err
    assert samples(tmp_path).count(("failed", "error")) == 1
    assert main(arguments("run", name, comfy, *more, limit=3)) == 0
    assert len(comfy.ran) == 3


def test_after_a_kill_what_was_queued_is_collected(comfy, workflow, tmp_path):
    comfy.most = 2
    name = workflow()
    command = [sys.executable, "-m", "idbench", *arguments("generate", name, comfy, limit=4)]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while len(list(tmp_path.rglob("*.ticket"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert samples(tmp_path).count(("pending", None)) >= 2
    assert len(comfy.pending) == 1
    comfy.most = 4
    assert main(arguments("generate", name, comfy, limit=4)) == 0
    assert samples(tmp_path) == [("ok", None)] * 4
    assert len(comfy.graphs) == len(comfy.ran) == 4


def test_a_workflow_that_is_not_taken_leaves_the_samples_pending(
    comfy, workflow, workflow_graph, tmp_path, capsys
):
    graph = workflow_graph()
    graph["4"]["class_type"] = "PulidFluxModelLoader"
    assert main(arguments("generate", workflow(graph), comfy, limit=3)) == 2
    assert "Node 'PulidFluxModelLoader' not found" in capsys.readouterr().err
    assert samples(tmp_path) == [("pending", None)] * 3
