"""The gate as a model repository uses it: the steps of the example workflow, in a folder apart."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

MODEL = '''
from PIL import ImageFilter


class Model:
    """Stands for a network: keeps the person, a little softer."""

    radius = 1.0

    def generate(self, requests):
        blur = ImageFilter.GaussianBlur(self.radius)
        return [request.references[0].image.filter(blur) for request in requests]
'''
NEEDED = ("torch", "mtcnn", "dlib", "skimage", "insightface")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(find_spec(name) for name in NEEDED), reason="needs the extra idbench[embedded]"
    ),
]


def run_step(repository: Path, command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "GITHUB_STEP_SUMMARY": str(repository / "summary.md"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(
        ["bash", "-e", "-c", command],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A repository with a model, the example written by `gate init`, and a committed baseline."""
    folder = tmp_path_factory.mktemp("model-repository")
    (folder / "model.py").write_text(MODEL)
    (folder / "pyproject.toml").write_text('[project]\nname = "model"\nversion = "0"\n')
    assert run_step(folder, "idbench gate init .").returncode == 0
    config = (folder / "idbench.yaml").read_text()
    assert "methods: [copy]" in config
    (folder / "idbench.yaml").write_text(
        config.replace("[copy]", "['python:model.py:Model']").replace(
            "[embedded]", "['facesim[dlib]', 'landmarkdiff@strict']"
        )
    )
    made = run_step(
        folder,
        "idbench run idbench.yaml --output runs && "
        "idbench baseline save runs -o idbench-baseline.json",
    )
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture(scope="module")
def steps(repository):
    workflow = yaml.safe_load((repository / ".github/workflows/idbench.yml").read_text())
    return {
        step["name"]: step["run"] for step in workflow["jobs"]["gate"]["steps"] if "run" in step
    }


def change_model(repository: Path, radius: float) -> None:
    (repository / "model.py").write_text(MODEL.replace("radius = 1.0", f"radius = {radius}"))
    shutil.rmtree(repository / "runs", ignore_errors=True)


def test_unchanged_model_passes(repository, steps):
    gate = run_step(repository, steps["Gate"])
    assert gate.returncode == 0, gate.stdout + gate.stderr
    assert gate.stdout.startswith("gate: pass")
    test = run_step(repository, steps["The same as a test"])
    assert test.returncode == 0, test.stdout
    assert "1 passed" in test.stdout


def test_worse_model_fails(repository, steps):
    change_model(repository, 6.0)
    made = run_step(repository, steps["Generate and score"])
    assert made.returncode == 0, made.stderr
    gate = run_step(repository, steps["Gate"])
    assert gate.returncode == 1, gate.stdout + gate.stderr
    assert "::error title=idbench gate%3A facesim" in gate.stdout
    assert "REGRESSION" in (repository / "summary.md").read_text()
    suite = ElementTree.parse(repository / "gate.xml").find("testsuite")
    assert int(suite.get("failures")) >= 1
    test = run_step(repository, steps["The same as a test"])
    assert test.returncode == 1
    assert "gate: REGRESSION" in test.stdout


def test_too_few_samples_are_inconclusive(repository, steps):
    change_model(repository, 1.0)
    made = run_step(repository, steps["Generate and score"] + " --limit 3")
    assert made.returncode == 0, made.stderr
    gate = run_step(repository, steps["Gate"])
    assert gate.returncode == 2, gate.stdout + gate.stderr
    assert gate.stdout.startswith("gate: inconclusive")


def test_wrong_input_is_exit_code_2_and_names_the_fault(repository):
    gate = run_step(repository, "idbench gate runs --baseline nowhere.json --rules gate.yaml")
    assert gate.returncode == 2
    assert "there is no baseline nowhere.json" in gate.stderr


def test_simulation_speaks_of_both_goals(repository):
    done = run_step(
        repository, "idbench gate simulate --baseline idbench-baseline.json --rules gate.yaml"
    )
    assert done.returncode in (0, 1), done.stderr
    assert "at most 1% false alarms and at least 90% power" in done.stdout
    many = run_step(
        repository,
        "idbench gate simulate --baseline idbench-baseline.json --rules gate.yaml "
        "--identities 2000 --effect facesim=0.2 landmarkdiff=0.2",
    )
    assert many.returncode == 0, many.stdout + many.stderr


def test_example_never_overwrites(repository):
    again = run_step(repository, "idbench gate init .")
    assert again.returncode == 2
    assert "is there already" in again.stderr
