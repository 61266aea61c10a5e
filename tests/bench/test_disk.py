"""A disk that refuses: a clear error, and the same table once there is room."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from idbench.metrics.registry import missing_requirements

MISSING = missing_requirements("dlib_face")
pytestmark = pytest.mark.skipif(bool(MISSING), reason="; ".join(MISSING))


def run(folder: Path, output: Path, limit: int | None) -> "subprocess.CompletedProcess[str]":
    """`idbench run` in a process that may not write files larger than `limit` bytes."""

    def refuse() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [
        sys.executable, "-m", "idbench", "run", "--suite", "demo", "--limit", "3", "--workers", "1",
        "--method", "copy", "--metrics", "n_faces", "--output", str(output),
    ]  # fmt: skip
    environment = os.environ | {"IDBENCH_DATA": str(folder / "data"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, env=environment, preexec_fn=refuse, capture_output=True, text=True, check=False
    )


def test_a_full_disk_is_said_and_the_rest_goes_on_later(tmp_path: Path) -> None:
    expected = run(tmp_path, tmp_path / "whole", None)
    assert expected.returncode == 0, expected.stderr
    # The pictures of the demo have about 100 kB, the first page of a database 4 kB.
    for limit in (3_000, 50_000):
        refused = run(tmp_path, tmp_path / "full", limit)
        assert refused.returncode == 2
        assert "cannot" in refused.stderr
        assert "Traceback" not in refused.stderr
    again = run(tmp_path, tmp_path / "full", None)
    assert (again.returncode, again.stdout) == (0, expected.stdout)
    assert not list((tmp_path / "full").rglob(".partial-*"))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system nobody can write")
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    refused = run(tmp_path, Path("/proc/idbench"), None)
    assert refused.returncode == 2
    assert "/proc/idbench" in refused.stderr
    assert "Traceback" not in refused.stderr
