"""The gate's steps of the example workflow on stored scores; generation is in the slow test."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from idbench.cli import main
from idbench.records import Column, Sample, Score
from idbench.store import RunIdentity, RunStore

COLUMNS = [
    Column(
        name=name,
        fingerprint=f"{place}" * 16,
        unit="",
        higher_is_better=True,
        low=0.0,
        high=1.0,
        axis=axis,
        comparable_to_published=False,
        details="{}",
    )
    for place, (name, axis) in enumerate(
        [("facesim@strict[dlib]", "preservation"), ("landmarkdiff@strict[mtcnn]", "editability")]
    )
]
PEOPLE, PROMPTS = 12, 4


def fill(folder, drop=0.0, people=PEOPLE):
    """A run of a model on 12 people x 4 prompts, of which every score is lowered by `drop`."""
    values = random.Random(3)
    identity = RunIdentity(
        label="model",
        method={"name": "model", "target": "model", "args": {}, "fingerprint": {"drop": drop}},
        suite={"name": "s", "target": "s", "version": 1, "kind": "single_id", "sha256": "a"},
        seed_policy="hashed",
        size=None,
        environment={},
    )
    with RunStore.create(folder / "runs", identity) as store:
        cases = [
            (f"r{person:012d}", f"c{person:08d}{prompt:08d}")
            for person in range(people)
            for prompt in range(PROMPTS)
        ]
        store.plan(
            (Sample(case_id=case, sample=0, seed=0, status="pending"), person, 1, {})
            for person, case in cases
        )
        store.add_columns(COLUMNS)
        store.add_scores(
            Score(
                case_id=case,
                sample=0,
                column=column.name,
                fingerprint=column.fingerprint,
                value=0.6 + values.gauss(0, 0.02) - drop,
            )
            for column in COLUMNS
            for _, case in cases
        )


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A model's repository with the example files and a baseline, but no runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "model"\nversion = "0"\n')
    assert main(["gate", "init", "."]) == 0
    fill(tmp_path / "before")
    assert main(["baseline", "save", "before/runs", "-o", "idbench-baseline.json"]) == 0
    return tmp_path


def step(repository: Path, name: str) -> subprocess.CompletedProcess[str]:
    workflow = yaml.safe_load((repository / ".github/workflows/idbench.yml").read_text())
    (command,) = [s["run"] for s in workflow["jobs"]["gate"]["steps"] if s.get("name") == name]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-e", "-c", command],
        cwd=repository,
        env=os.environ | {"PATH": path, "GITHUB_STEP_SUMMARY": str(repository / "summary.md")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("drop", "people", "code", "outcome"),
    [
        (0.0, PEOPLE, 0, "pass"),
        (0.2, PEOPLE, 1, "REGRESSION"),
        (0.0, 2, 2, "inconclusive"),
    ],
)
def test_the_steps_of_the_workflow(repository, drop, people, code, outcome):
    fill(repository, drop, people)
    gate = step(repository, "Gate")
    assert gate.returncode == code, gate.stdout + gate.stderr
    assert gate.stdout.startswith(f"gate: {outcome}")
    assert outcome in (repository / "summary.md").read_text()
    test = step(repository, "The same as a test")
    assert test.returncode == min(code, 1), test.stdout + test.stderr
    assert ("1 passed" if code == 0 else f"gate: {outcome}") in test.stdout
