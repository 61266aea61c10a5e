"""Joins runs that hold parts of one plan, such as shards; the order of joining does not matter."""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from idbench.features import SCHEMA
from idbench.files import StorageError
from idbench.progress import Progress
from idbench.records import Sample, Score
from idbench.store import RunError, RunStore, find_runs


class MergeConflictError(RunError):
    """Two runs have different results for one sample."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What came into a run: samples that are new or were open there, and scores."""

    directory: Path
    samples: int
    scores: int


def merge(workspace: Path, parts: Iterable[Path]) -> list[Merged]:
    """Brings the runs at or under `parts` into `workspace`; a second time it changes nothing.

    An image goes before a failure, a failure before an open sample. Features are joined too.

    Raises:
        RunError: If a part holds no run, or a run is being written.
        MergeConflictError: If two runs have different images or scores for one sample. Runs that
            were joined before it stay joined; nothing of the two is lost.
        StorageError: If the disk refuses.
    """
    sources = [directory for part in parts for directory in find_runs([part])]
    done = []
    with Progress("merge", len(sources), "runs") as progress:
        for directory in sources:
            with RunStore.open(directory) as source:
                if source.directory.parent.parent.resolve() == workspace.resolve():
                    raise RunError(f"{directory} lies in the workspace it should be merged into")
                with RunStore.create(workspace, source.identity) as target, target.writing():
                    done.append(_merge_run(source, target))
            _merge_features(directory.parent.parent, workspace)
            progress.advance()
    return done


def _merge_run(source: RunStore, target: RunStore) -> Merged:
    theirs = source.planned()
    target.plan(
        (_open(sample), identity, copies, tags) for sample, identity, copies, tags in theirs
    )
    ours = {(sample.case_id, sample.sample): sample for sample in target.samples()}
    taken = [
        sample
        for sample, *_ in theirs
        if _takes(ours[sample.case_id, sample.sample], sample, source, target)
    ]
    for sample in taken:
        if sample.path is not None:
            _copy(source.directory / sample.path, target.directory / sample.path)
    target.record(taken)
    target.add_columns(source.columns())
    known = {_place(score): score for score in target.scores()}
    new = [score for score in source.scores() if _is_new(score, known, source, target)]
    target.add_scores(new)
    return Merged(target.directory, len(taken), len(new))


def _open(sample: Sample) -> Sample:
    return Sample(case_id=sample.case_id, sample=sample.sample, seed=sample.seed, status="pending")


_RANK = {"pending": 0, "failed": 1, "ok": 2}


def _takes(ours: Sample, theirs: Sample, source: RunStore, target: RunStore) -> bool:
    """Whether the sample of the source goes before that of the target."""
    if ours.status == theirs.status == "ok" and ours.sha256 != theirs.sha256:
        raise MergeConflictError(
            f"sample {ours.sample} of case {ours.case_id} is another image in {source.directory} "
            f"than in {target.directory}: they were made on different devices or versions, see "
            "`environment` in their run.json; delete the run that you do not trust"
        )
    if ours.status == theirs.status == "failed":
        # Whichever is merged first, the same of two reasons stays.
        return (theirs.reason or "", theirs.detail or "") < (ours.reason or "", ours.detail or "")
    return _RANK[theirs.status] > _RANK[ours.status]


def _place(score: Score) -> tuple[str, str, str, int]:
    return score.column, score.fingerprint, score.case_id, score.sample


def _is_new(
    score: Score, known: dict[tuple[str, str, str, int], Score], source: RunStore, target: RunStore
) -> bool:
    other = known.get(_place(score))
    if other is None:
        return True
    if (other.value, other.reason) != (score.value, score.reason):
        raise MergeConflictError(
            f"{score.column} of case {score.case_id} is {score.value or score.reason} in "
            f"{source.directory} and {other.value or other.reason} in {target.directory}; "
            "score one of them again"
        )
    return False


def _copy(source: Path, target: Path) -> None:
    """A hard link where the file system has them, else a copy made whole."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
        partial = target.with_name(f".partial-{target.name}")
        shutil.copyfile(source, partial)
        partial.replace(target)
    except OSError as error:
        raise StorageError(f"cannot copy {source} to {target}: {error.strerror}") from error


def _merge_features(source: Path, target: Path) -> None:
    path = source / "features.sqlite"
    if not path.exists():
        return
    joined = target / "features.sqlite"
    try:
        with contextlib.closing(sqlite3.connect(joined, timeout=60.0)) as database:
            database.executescript(SCHEMA)
            database.execute("ATTACH ? AS part", (str(path),))
            known = "SELECT 1 FROM part.sqlite_master WHERE name = 'features'"
            if database.execute(known).fetchone() is None:
                return  # killed before its first features
            with database:
                database.execute(
                    "INSERT OR IGNORE INTO features (input, extractor, data, reason, detail) "
                    "SELECT input, extractor, data, reason, detail FROM part.features"
                )
    except sqlite3.OperationalError as error:
        raise StorageError(
            f"cannot join {path} to {joined}: {error}; merge again when there is room"
        ) from error
    except sqlite3.DatabaseError as error:
        raise StorageError(
            f"cannot join {path} to {joined}, one of them is damaged ({error}); they are only "
            "caches: delete the damaged one and merge again"
        ) from error
