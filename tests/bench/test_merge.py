"""Shards: disjoint, together everything, merged in any order to the run made at once."""

import itertools
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from idbench.files import StorageError
from idbench.generate import GenerateOptions, generate, shard_of
from idbench.merge import MergeConflictError, merge
from idbench.method_spec import MethodSpec
from idbench.prompts.suites import Suite
from idbench.records import Column, Score
from idbench.store import RunError, RunStore, find_runs, load_frame

COLUMN = Column(
    name="width@strict[test]", fingerprint="f", unit="pixels", higher_is_better=None, low=0,
    high=100, axis="quality", comparable_to_published=False, details="{}",
)  # fmt: skip


def make(suite: Suite, tmp_path: Path, shard: tuple[int, int] | None, value: float = 1.0) -> Path:
    """Generates a shard with one score per sample; returns its run directory."""
    options = GenerateOptions(workspace=tmp_path / "runs", data_root=tmp_path, shard=shard)
    (done,) = generate(suite, [MethodSpec(name="noise")], options)
    with RunStore.open(done.directory) as store:
        store.add_columns([COLUMN])
        store.add_scores(
            Score(case_id=s.case_id, sample=0, column=COLUMN.name, fingerprint="f", value=value)
            for s in store.samples("ok")
        )
    return done.directory


def content(workspace: Path) -> tuple[pd.DataFrame, dict[str, bytes]]:
    frame, _ = load_frame([workspace])
    images = {
        path.relative_to(workspace).as_posix(): path.read_bytes()
        for path in workspace.glob("pictures/*/images/*/*.png")
    }
    return frame, images


def test_shards_are_disjoint_and_cover_the_plan(pictures: Suite, tmp_path: Path) -> None:
    parts = [make(pictures, tmp_path, (number, 3)) for number in (1, 2, 3)]
    planned = []
    for number, part in enumerate(parts, start=1):
        with RunStore.open(part) as store:
            planned += [s.case_id for s in store.samples("ok")]
            assert all(shard_of(s.case_id, 3) == number for s in store.samples())
    assert sorted(planned) == [case.case_id for case in pictures.cases]


def test_any_order_of_merging_gives_the_run_made_at_once(pictures: Suite, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    make(pictures, whole, None)
    expected_frame, expected_images = content(whole / "runs")
    parts = [make(pictures, tmp_path, (number, 3)) for number in (1, 2, 3)]
    for order in itertools.permutations(parts):
        target = tmp_path / "merged"
        for part in order:
            merge(target, [part])
        frame, images = content(target)
        pd.testing.assert_frame_equal(frame, expected_frame)
        assert images == expected_images
        assert all(entry.samples == entry.scores == 0 for entry in merge(target, parts))
        shutil.rmtree(target)


def test_a_workspace_hides_its_shards(pictures: Suite, tmp_path: Path) -> None:
    part = make(pictures, tmp_path, (1, 2))
    with pytest.raises(RunError):
        find_runs([tmp_path / "runs"])
    merge(tmp_path / "runs", [part])
    (merged,) = find_runs([tmp_path / "runs"])
    assert "shards" not in merged.parts


def test_different_scores_are_a_conflict(pictures: Suite, tmp_path: Path) -> None:
    one = make(pictures, tmp_path / "a", None, value=1.0)
    two = make(pictures, tmp_path / "b", None, value=2.0)
    merge(tmp_path / "merged", [one])
    with pytest.raises(MergeConflictError, match=r"2\.0 .* and 1\.0"):
        merge(tmp_path / "merged", [two])


def test_different_images_are_a_conflict(pictures: Suite, tmp_path: Path) -> None:
    one = make(pictures, tmp_path / "a", None)
    two = make(pictures, tmp_path / "b", None)
    with RunStore.open(two) as store:
        (sample, *_) = store.samples("ok")
        store.record([replace(sample, sha256="0" * 64)])
    merge(tmp_path / "merged", [one])
    with pytest.raises(MergeConflictError, match=sample.case_id):
        merge(tmp_path / "merged", [two])


def test_an_image_goes_before_a_failure(pictures: Suite, tmp_path: Path) -> None:
    one = make(pictures, tmp_path / "a", None)
    two = make(pictures, tmp_path / "b", None)
    with RunStore.open(two) as store:
        (sample, *_) = store.samples("ok")
        store.record(
            [replace(sample, status="failed", path=None, sha256=None, reason="error", detail="x")]
        )
    for order in ([one, two], [two, one]):
        target = tmp_path / "merged"
        merge(target, order)
        with RunStore.open(find_runs([target])[0]) as store:
            assert len(store.samples("ok")) == 6
        shutil.rmtree(target)


def test_damaged_features_of_a_shard_are_named(pictures: Suite, tmp_path: Path) -> None:
    part = make(pictures, tmp_path, (1, 2))
    shared = part.parent.parent
    (shared / "features.sqlite").write_bytes(b"not a database, but as long as one" * 40)
    with pytest.raises(StorageError, match=r"features\.sqlite.*only caches"):
        merge(tmp_path / "runs", [part])
    (shared / "features.sqlite").write_bytes(b"")  # killed before its first features
    assert merge(tmp_path / "runs", [part])
