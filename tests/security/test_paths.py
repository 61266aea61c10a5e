"""Ids and paths that come from others cannot lead out of the folders they belong to."""

import json
import sqlite3
from pathlib import Path

import pytest

from idbench.merge import merge
from idbench.records import Sample
from idbench.store import RunError, RunIdentity, RunStore


def identity(suite: str = "small", method: str = "mine") -> RunIdentity:
    return RunIdentity(
        label="mine",
        method={"name": method, "target": "mine", "args": {}, "fingerprint": {}},
        suite={"name": suite, "sha256": "0" * 64},
        seed_policy="hashed",
        size=None,
        environment={},
    )


def shard(folder: Path, path: str) -> Path:
    """A run as somebody else may hand it over, with an image at `path`."""
    sample = Sample(case_id="c" + "0" * 16, sample=0, seed=1, status="pending")
    with RunStore.create(folder, identity()) as store, store.writing():
        store.plan([(sample, "someone", 1, {})])
        directory = store.directory
    database = sqlite3.connect(directory / "run.sqlite")
    with database:
        database.execute("UPDATE samples SET status = 'ok', path = ?, sha256 = 'x'", (path,))
    database.close()
    return directory


@pytest.mark.parametrize(
    "path",
    ["../../../evil.png", "/etc/passwd", "images/../../../evil.png", "images//x.png", "run.json"],
)
def test_images_of_a_foreign_run_stay_in_it(path: str, tmp_path: Path) -> None:
    directory = shard(tmp_path / "theirs", path)
    (tmp_path / "evil.png").write_bytes(b"not ours")
    with pytest.raises(RunError, match="not in the images of its run"):
        merge(tmp_path / "ours", [directory])
    with RunStore.open(directory) as store, pytest.raises(RunError, match="do not use this run"):
        store.samples()
    outside = [path for path in tmp_path.iterdir() if path.name not in ("ours", "theirs")]
    assert outside == [tmp_path / "evil.png"]


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/b", "..", ".", "", "a\\b"])
def test_the_name_of_a_suite_is_no_path(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no name of a suite"):
        identity(suite=name)
    # A run.json that others wrote says so too.
    directory = shard(tmp_path / "theirs", "images/c/000.png")
    document = json.loads((directory / "run.json").read_text())
    document["suite"]["name"] = name
    (directory / "run.json").write_text(json.dumps(document))
    with pytest.raises(RunError, match="no name of a suite"):
        merge(tmp_path / "ours", [directory])
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("name", ["../../evil", "/evil", "\x1b[2J", "..", "a/b\\c", "x" * 500])
def test_the_name_of_a_method_is_one_folder(name: str, tmp_path: Path) -> None:
    with RunStore.create(tmp_path, identity(method=name)) as store:
        assert store.directory.parent == tmp_path / "small"
        assert store.directory.name.isprintable()
        assert len(store.directory.name) < 100
