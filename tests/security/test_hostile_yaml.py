"""YAML from others: no objects of Python, no billion values, and an error of our own."""

import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from idbench.methods.common.yaml_text import read_yaml

# Ten values, ten of those, ... : a few hundred bytes that stand for 10^9 values.
BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    + ["suite: *a8", "name: *a8"]
)
DOCUMENTS = {
    "tag": "suite: !!python/object/apply:os.system ['touch {canary}']\n",
    "new": "name: !!python/object/new:pathlib.Path ['{canary}']\n",
    "bomb": BOMB,
    "deep": "suite: " + "[" * 5000 + "]" * 5000,
    "self": "suite: &a [*a]\n",
}
# Reader -> code that reads `path`; all are run with 4 GB and two minutes.
READERS = {
    "configuration": "from idbench.config import read_config; read_config(path, {})",
    "gate rules": "from idbench.gate_rules import read_rules; read_rules(path, [])",
    "campaign": "from idbench.campaign import read_campaign; read_campaign(path)",
    "recipe": (
        "from idbench.methods.recipes.recipe import read_recipe; read_recipe(path.read_text(), 'x')"
    ),
    "program": (
        "from idbench.methods.recipes.programs_of_others import read_program_recipe; "
        "read_program_recipe(path.read_text(), 'x')"
    ),
    "training": (
        "from idbench.methods.common.training import TrainingConfig, read_config; "
        "read_config(path, TrainingConfig)"
    ),
    "mapping": (
        "from idbench.methods.wrappers.hosted_mapping import read_mapping; read_mapping(str(path))"
    ),
    "suite": (
        "from idbench.prompts.suites import load_suite; "
        "load_suite(path.parent, data_root=path.parent)"
    ),
}
MEMORY = 4 << 30


def read(code: str, paths: list[Path]) -> "subprocess.CompletedProcess[str]":
    """Reads every file in one process of its own; a line per file."""
    script = f"""
    import sys
    from pathlib import Path
    for path in map(Path, sys.argv[1:]):
        try:
            {code}
        except (ValueError, LookupError, OSError) as error:
            print("refused", len(str(error)), flush=True)
        else:
            print("read", 0, flush=True)
    """

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, paths)],
        preexec_fn=limited, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_hostile_yaml_is_refused_and_runs_nothing(reader: str, tmp_path: Path) -> None:
    if reader == "training":
        pytest.importorskip("accelerate")
    canary = tmp_path / "ran"
    paths = []
    for name, document in DOCUMENTS.items():
        paths.append(tmp_path / name / "suite.yaml")
        paths[-1].parent.mkdir()
        paths[-1].write_text(document.replace("{canary}", str(canary)))
    ended = read(READERS[reader], paths)
    assert ended.returncode == 0, ended.stderr[-2000:]
    lines = [line.split() for line in ended.stdout.splitlines()]
    assert [word for word, _ in lines] == ["refused"] * len(DOCUMENTS)
    assert all(int(length) < 5000 for _, length in lines), "a message repeats the bomb"
    assert not canary.exists()


def test_aliases_of_honest_documents_are_read() -> None:
    # As yaml.safe_dump writes them for an object that occurs twice.
    text = "one: &id001 [1, 2]\ntwo: *id001\nthree: {<<: {a: 1}, b: *id001}\n"
    assert read_yaml(text) == {"one": [1, 2], "two": [1, 2], "three": {"a": 1, "b": [1, 2]}}
