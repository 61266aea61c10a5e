"""Run directories: identity, plan, records, scores and what damage does to them."""

import dataclasses
import json
import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from idbench.files import StorageError, write_whole
from idbench.records import Column, Sample, Score
from idbench.store import RunError, RunIdentity, RunStore, find_runs, load_frame

IDENTITY = RunIdentity(
    label="blur(sigma=4)",
    method={"name": "blur", "target": "blur", "args": {}, "fingerprint": {"sigma": 4.0}},
    suite={"name": "tiny", "target": "tiny", "version": 1, "kind": "single_id", "sha256": "a" * 64},
    seed_policy="hashed",
    size=None,
    environment={"idbench": "0"},
)
COLUMN = Column(
    name="facesim@strict[dlib]",
    fingerprint="f" * 16,
    unit="similarity",
    higher_is_better=True,
    low=float("-inf"),
    high=1.0,
    axis="preservation",
    comparable_to_published=False,
    details="{}",
)


def planned(case_id: str, sample: int = 0) -> tuple[Sample, str, int, dict[str, list[str]]]:
    row = Sample(case_id=case_id, sample=sample, seed=7, status="pending")
    return row, "r1", 2, {"difficulty": ["hard"]}


def made(case_id: str, sha256: str = "1" * 64) -> Sample:
    return Sample(
        case_id=case_id, sample=0, seed=7, status="ok", path=f"images/{case_id}/000.png",
        sha256=sha256, width=4, height=3, seconds=0.5,
    )  # fmt: skip


def score(case_id: str, value: float | None, reason: str | None = None) -> Score:
    return Score(
        case_id=case_id, sample=0, column=COLUMN.name, fingerprint=COLUMN.fingerprint,
        value=value, reason=reason,
    )  # fmt: skip


def test_the_same_identity_opens_the_same_run(tmp_path: Path) -> None:
    with RunStore.create(tmp_path, IDENTITY) as first, RunStore.create(tmp_path, IDENTITY) as again:
        assert first.directory == again.directory
    other = dataclasses.replace(IDENTITY, method=IDENTITY.method | {"fingerprint": {"sigma": 4.5}})
    with RunStore.create(tmp_path, other) as store:
        assert store.directory != first.directory


def test_environment_and_label_are_recorded_but_make_no_other_run() -> None:
    moved = dataclasses.replace(IDENTITY, environment={"idbench": "1"}, label="x")
    assert moved.key == IDENTITY.key


@pytest.mark.parametrize("field", ["seed_policy", "size", "suite"])
def test_whatever_moves_a_pixel_makes_another_run(field: str) -> None:
    changed = {"seed_policy": "fixed:1", "size": (8, 8), "suite": {**IDENTITY.suite, "sha256": "b"}}
    assert dataclasses.replace(IDENTITY, **{field: changed[field]}).key != IDENTITY.key


def test_a_hostile_method_name_stays_in_the_workspace(tmp_path: Path) -> None:
    hostile = dataclasses.replace(IDENTITY, method=IDENTITY.method | {"name": "../../x\n/é"})
    with RunStore.create(tmp_path, hostile) as store:
        assert store.directory.parent == tmp_path / "tiny"


def test_a_database_from_before_there_were_notes_gets_them(tmp_path: Path) -> None:
    with RunStore.create(tmp_path, IDENTITY) as store:
        store.plan([planned("c1")])
        directory = store.directory
    with sqlite3.connect(directory / "run.sqlite") as database:
        database.execute("ALTER TABLE samples DROP COLUMN notes")
    with RunStore.open(directory) as store:
        assert store.samples()[0].notes is None
        store.record([dataclasses.replace(made("c1"), notes='{"w":1}')])
        assert store.samples()[0].notes == '{"w":1}'


def test_a_second_plan_keeps_what_is_known(tmp_path: Path) -> None:
    with RunStore.create(tmp_path, IDENTITY) as store:
        store.plan([planned("c1"), planned("c2")])
        store.record([made("c1")])
        store.plan([planned("c1"), planned("c2"), planned("c3")])
        assert [(s.case_id, s.status) for s in store.samples()] == [
            ("c1", "ok"), ("c2", "pending"), ("c3", "pending"),
        ]  # fmt: skip
        assert store.samples("ok") == [made("c1")]


def test_scores_come_back_with_every_planned_sample(tmp_path: Path) -> None:
    with RunStore.create(tmp_path, IDENTITY) as store:
        store.plan([planned("c1"), planned("c2"), planned("c3")])
        store.record([made("c1"), made("c2")])
        store.add_columns([COLUMN])
        store.add_scores([score("c1", 0.25), score("c2", None, "no_face")])
    frame, columns = load_frame([tmp_path])
    assert columns == [COLUMN]
    assert frame["reason"].tolist() == ["", "no_face", "not_scored"]
    assert frame["value"].tolist()[0] == 0.25
    assert frame["value"].isna().tolist() == [False, True, True]
    assert frame["multiplicity"].tolist() == [2, 2, 2]
    assert json.loads(frame["tags"][0]) == {"difficulty": ["hard"]}


def test_a_changed_image_loses_its_scores(tmp_path: Path) -> None:
    with RunStore.create(tmp_path, IDENTITY) as store:
        store.plan([planned("c1"), planned("c2")])
        store.record([made("c1"), made("c2")])
        store.add_columns([COLUMN])
        store.add_scores([score("c1", 0.25), score("c2", 0.5)])
        store.record([made("c1", sha256="2" * 64), made("c2")])
        assert store.scored(COLUMN.name, COLUMN.fingerprint) == {("c2", 0)}


def test_errors_can_be_retried(tmp_path: Path) -> None:
    with RunStore.create(tmp_path, IDENTITY) as store:
        store.plan([planned("c1"), planned("c2")])
        store.add_columns([COLUMN])
        store.add_scores([score("c1", None, "error"), score("c2", None, "no_face")])
        key = (COLUMN.name, COLUMN.fingerprint)
        assert store.scored(*key) == {("c1", 0), ("c2", 0)}
        assert store.scored(*key, retry=["error"]) == {("c2", 0)}


def _hold(directory: Path, held: "multiprocessing.synchronize.Event", release: object) -> None:
    with RunStore.open(directory) as store, store.writing():
        held.set()
        release.wait(30)  # type: ignore[attr-defined]


@pytest.mark.usefixtures("importable")
def test_a_second_writer_is_refused_and_readers_are_not(tmp_path: Path) -> None:
    with RunStore.create(tmp_path, IDENTITY) as store:
        context = multiprocessing.get_context("spawn")
        held, release = context.Event(), context.Event()
        process = context.Process(target=_hold, args=(store.directory, held, release))
        process.start()
        try:
            assert held.wait(30)
            with pytest.raises(RunError, match="written by another process"), store.writing():
                pass
            assert store.samples() == []
        finally:
            release.set()
            process.join(30)
        with store.writing():
            store.plan([planned("c1")])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ("{}", "damaged"),
        ('{"format": "idbench.run/1", "key": "x", "size": null}', "damaged"),
    ],
)
def test_a_damaged_run_json_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunError, match=message):
        RunStore.open(tmp_path)


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    with RunStore.create(tmp_path, IDENTITY) as store:
        path = store.directory / "run.json"
    path.write_text(path.read_text().replace("idbench.run/1", "idbench.run/999"))
    with pytest.raises(RunError, match=r"idbench\.run/999"):
        RunStore.open(path.parent)


def test_a_damaged_database_is_named(tmp_path: Path) -> None:
    with RunStore.create(tmp_path, IDENTITY) as store:
        path = store.directory / "run.sqlite"
    path.write_bytes(b"not a database, but long enough to be read as one" * 10)
    with pytest.raises(RunError, match=r"run\.sqlite is damaged"):
        RunStore.open(path.parent)


@pytest.mark.parametrize("lost", [1, 2, 100, 4096])
def test_a_database_that_lost_its_end_is_named(tmp_path: Path, lost: int) -> None:
    # SQLite itself reads the rest of a cut page as zeros.
    with RunStore.create(tmp_path, IDENTITY) as store:
        store.plan(planned(f"c{number:016x}") for number in range(200))
        path = store.directory / "run.sqlite"
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(RunError, match=r"run\.sqlite is damaged.*move .* away"):
        RunStore.open(path.parent)


@pytest.mark.parametrize("left", [0, 1, 100])
def test_a_database_that_is_empty_beside_images_is_named(tmp_path: Path, left: int) -> None:
    with RunStore.create(tmp_path, IDENTITY) as store:
        path = store.directory / "run.sqlite"
    path.write_bytes(path.read_bytes()[:left])
    (path.parent / "images").mkdir()
    with pytest.raises(RunError, match=r"run\.sqlite is damaged: it is empty"):
        RunStore.open(path.parent)


def test_a_run_that_was_killed_before_its_plan_is_opened(tmp_path: Path) -> None:
    with RunStore.create(tmp_path, IDENTITY) as store:
        path = store.directory / "run.sqlite"
    path.write_bytes(b"")
    with RunStore.open(path.parent) as store:
        assert store.samples() == []


def test_a_folder_without_runs_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"has a run\.json"):
        find_runs([tmp_path])


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")
    with pytest.raises(StorageError, match="cannot write"):
        write_whole(path / "below", b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_full_database_is_a_storage_error_and_keeps_what_it_has(tmp_path: Path) -> None:
    with RunStore.create(tmp_path, IDENTITY) as store:
        store.plan([planned("c1")])
        store._database.execute("PRAGMA max_page_count = 8")
        with pytest.raises(StorageError, match="full"):
            store.plan(planned(f"c{number:016d}") for number in range(10_000))
        assert [s.case_id for s in store.samples()] == ["c1"]
    with sqlite3.connect(store.directory / "run.sqlite") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
