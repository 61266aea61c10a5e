"""Faults on purpose: every case passes, and fails where the harness is made to lose something."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from idbench.faults.kills import STAGES
from idbench.faults.torture import CASES

# What needs a disk of one's own, or a list of the children of a process.
MAY_SKIP = {"full-disk", "read-only-disk"}
if sys.platform != "linux":
    MAY_SKIP |= {"failing-workers", "orphaned-workers"}

KILLS = 24  # `idbench torture` alone kills 200; see test_two_hundred_kills


def torture(
    folder: Path, *arguments: str, sabotage: str = "pass"
) -> "subprocess.CompletedProcess[str]":
    """`idbench torture` in a process of its own, after some code that breaks the harness."""
    # In a file with a guard, because worker processes import the main module again.
    script = folder / "main.py"
    folder.mkdir(parents=True, exist_ok=True)
    code = textwrap.indent(textwrap.dedent(sabotage).strip(), "    ")
    start = "    from idbench.cli import main\n    sys.exit(main(sys.argv[1:]))\n"
    script.write_text(f"import sys\nif __name__ == '__main__':\n{code}\n{start}")
    command = [sys.executable, str(script), "torture", "--output", str(folder / "torture")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *arguments], env=environment, capture_output=True, text=True, check=False
    )


def result_of(case: str, folder: Path) -> dict[str, str] | None:
    """What `idbench torture` recorded of a case; skips where this system cannot have it."""
    cases = json.loads((folder / "torture" / "torture.json").read_text())["cases"]
    found: dict[str, str] | None = cases.get(case)
    if found is not None and found["outcome"] == "skipped" and case in MAY_SKIP:
        pytest.skip(found["said"])
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("torture")


@pytest.fixture(scope="module")
def ended(folder: Path) -> "subprocess.CompletedProcess[str]":
    return torture(folder, "--kills", str(KILLS), "--times", "1", "--seed", "1")


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_lost_or_counted_twice(
    case: str, ended: "subprocess.CompletedProcess[str]", folder: Path
) -> None:
    found = result_of(case, folder)
    assert found is not None, ended.stderr
    assert found["outcome"] == "passed", found["said"]


def test_the_report_is_a_line_per_case_within_80_columns(
    ended: "subprocess.CompletedProcess[str]",
) -> None:
    assert ended.returncode == 0, ended.stdout + ended.stderr
    *lines, last = ended.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(CASES)
    assert all(len(line) <= 80 for line in lines)
    assert "failed" not in last
    kills = lines[-1].partition(" s  ")[2]
    counts = [int(part.rpartition(" ")[2]) for part in kills.split(", ")]
    assert len(counts) == len(STAGES)
    assert all(count >= KILLS / len(STAGES) for count in counts)


def test_what_passed_is_not_done_again(
    ended: "subprocess.CompletedProcess[str]", folder: Path
) -> None:
    again = torture(
        folder, "--kills", str(KILLS), "--times", "1", "--seed", "1", "--only", "kills", "full-disk"
    )
    chosen = [line for line in ended.stdout.splitlines() if line.startswith(("kills", "full-disk"))]
    assert again.stdout.splitlines()[:-1] == chosen


# What a broken harness does -> the case that has to notice.
SABOTAGE = {
    "kills": """
        import os, time
        from idbench import generation_worker

        def in_place(path, data):  # no temporary name, no rename
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                for start in range(0, len(data), 20):
                    file.write(data[start : start + 20])
                    file.flush()
                    time.sleep(0.001)

        generation_worker.write_whole = in_place
    """,
    "two-drivers": """
        import fcntl
        fcntl.flock = lambda *_: None
    """,
    "truncated-images": """
        from idbench.store import RunStore
        RunStore.doubted = lambda self: set()
    """,
    "full-disk": """
        from contextlib import nullcontext
        from idbench.features import FeatureStore
        FeatureStore._named = lambda self: nullcontext()  # faults of the disk go through
    """,
    "clock-jumps": """
        import time
        from idbench import generation_worker

        real = generation_worker._finish

        def late(*arguments):
            found = real(*arguments)
            if time.time() > 2e9:  # a harness that believes the clock
                found = type(found)(case_id=found.case_id, sample=found.sample,
                    seed=found.seed, status="failed", reason="timeout")
            return found

        generation_worker._finish = late
    """,
}


@pytest.mark.parametrize("case", SABOTAGE)
def test_a_harness_that_loses_something_is_caught(case: str, tmp_path: Path) -> None:
    broken = torture(
        tmp_path, "--kills", "48", "--times", "1", "--only", case, sabotage=SABOTAGE[case]
    )
    found = result_of(case, tmp_path)
    assert found is not None, broken.stderr
    assert found["outcome"] == "failed", found["said"]
    assert broken.returncode == 1, broken.stdout + broken.stderr
    assert broken.stdout.startswith(case)
    assert "failed" in broken.stdout
    assert (tmp_path / "torture" / case).is_dir(), "the evidence is kept"


def test_without_time_nothing_is_run_and_that_is_no_success(tmp_path: Path) -> None:
    late = torture(tmp_path, "--minutes", "0.0001", "--only", "clock-jumps")
    assert late.returncode == 1
    assert "not run" in late.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--only", "fire"], "unknown case 'fire'"), (["--kills", "1"], "--kills")],
)
def test_wrong_arguments_are_named(tmp_path: Path, arguments: list[str], message: str) -> None:
    refused = torture(tmp_path, *arguments)
    assert refused.returncode == 2
    assert message in refused.stderr


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "torture").mkdir()
    (tmp_path / "torture" / "thesis.tex").touch()
    refused = torture(tmp_path)
    assert refused.returncode == 2
    assert "not empty" in refused.stderr
    assert (tmp_path / "torture" / "thesis.tex").exists()


@pytest.mark.slow
def test_two_hundred_kills(tmp_path: Path) -> None:
    ended = torture(tmp_path, "--minutes", "20", "--seed", "20261121")
    assert ended.returncode == 0, ended.stdout + ended.stderr
