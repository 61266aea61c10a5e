"""The example job script, run as Slurm runs it: once per task, with the task in its environment."""

import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

pytest.importorskip("dlib", reason="needs the embedded extra")

CONFIG = """
suite: demo
methods: [mirror]
metrics: ["facesim@strict[dlib]"]
limit: 5
workers: 1
"""


def call(folder: Path, *command: str, **variables: str) -> str:
    environment = os.environ | variables
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["IDBENCH_DATA"] = str(folder / "data")
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_array_and_a_merge_are_the_run_of_one_machine(tmp_path: Path) -> None:
    script = str(files("idbench") / "slurm_example" / "array.sbatch")
    whole, array = tmp_path / "whole", tmp_path / "array"
    for folder in (whole, array):
        folder.mkdir()
        (folder / "run.yaml").write_text(CONFIG)
    expected = call(whole, "idbench", "run", "run.yaml")
    for task in ("2", "1"):
        variables = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": "2"}
        call(array, "bash", script, "run.yaml", **variables)
    call(array, "idbench", "merge", "runs")
    assert call(array, "idbench", "table", "runs") == expected


def test_the_script_asks_for_what_it_uses() -> None:
    text = (files("idbench") / "slurm_example" / "array.sbatch").read_text(encoding="utf-8")
    options = [line.split()[1] for line in text.splitlines() if line.startswith("#SBATCH")]
    # Tasks count from 1, as shards do; the batch shell is the one that gets the signal.
    assert "--array=1-8" in options
    assert "--signal=B:TERM@120" in options
