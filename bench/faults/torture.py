"""All cases, one after the other, within a time; what passed is not done again."""

import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import idbench
from idbench.escape import plain
from idbench.faults import clocks, damage, disks, joining, kills, rivals, workers
from idbench.faults.session import FaultError, Session, SkippedError
from idbench.files import write_whole

WIDTH = 80
FORMAT = "idbench.torture/1"


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to try: processes to kill, and how often each other fault is repeated."""

    kills: int
    times: int


@dataclass(frozen=True, slots=True)
class Task:
    """What a case is given. `notes` keep what it has done if it is interrupted."""

    session: Session
    scene: Path
    chance: random.Random
    effort: Effort
    more: Callable[[], bool]
    notes: Counter[str]


@dataclass(frozen=True, slots=True)
class Result:
    """How a case ended: `passed`, `failed`, `skipped` or `not run`, and what was done or why."""

    case: str
    outcome: str
    seconds: float
    said: str


def _full_disk(task: Task) -> str:
    return disks.full_disk(task.session, task.scene, task.chance, times=2 * task.effort.times)


def _small_files(task: Task) -> str:
    return disks.small_files(task.session, task.scene, task.chance, times=task.effort.times)


def _read_only(task: Task) -> str:
    return disks.read_only_disk(task.session, task.scene)


def _truncated(task: Task) -> str:
    times = 3 * task.effort.times
    return damage.truncated_files(task.session, task.scene, task.chance, times=times)


def _overwritten(task: Task) -> str:
    times = 4 * task.effort.times
    return damage.overwritten_pages(task.session, task.scene, task.chance, times=times)


def _images(task: Task) -> str:
    return damage.truncated_images(task.session, task.scene, task.chance, share=0.2)


def _clock(task: Task) -> str:
    return clocks.jumping_clock(task.session, task.scene, task.chance, kills=task.effort.times)


def _rivals(task: Task) -> str:
    return rivals.rival_drivers(task.session, task.scene, times=task.effort.times)


def _workers(task: Task) -> str:
    return workers.failing_workers(task.session, task.scene, task.chance)


def _orphans(task: Task) -> str:
    times = task.effort.times
    return workers.orphaned_workers(task.session, task.scene, task.chance, times=times)


def _shards(task: Task) -> str:
    times = 4 * task.effort.times
    return joining.killed_merges(task.session, task.scene, task.chance, kills=times)


def _kills(task: Task) -> str:
    kills.kill_runs(
        task.session,
        task.scene,
        task.chance,
        kills=task.effort.kills,
        more=task.more,
        counts=task.notes,
    )
    names = ("generate", "extract", "score", "table")
    told = ", ".join(
        f"{name} {task.notes[stage]}" for name, stage in zip(names, kills.STAGES, strict=True)
    )
    done = sum(task.notes[stage] for stage in kills.STAGES)
    if done < task.effort.kills:
        raise _TimeUpError(f"{done} of {task.effort.kills} kills so far")
    return told


class _TimeUpError(Exception):
    """There is no time for the rest of a case."""


# name -> how it is done; in this order, so that what takes longest comes last.
CASES: Mapping[str, Callable[[Task], str]] = {
    "full-disk": _full_disk,
    "read-only-disk": _read_only,
    "small-files": _small_files,
    "truncated-files": _truncated,
    "overwritten-pages": _overwritten,
    "truncated-images": _images,
    "clock-jumps": _clock,
    "two-drivers": _rivals,
    "failing-workers": _workers,
    "orphaned-workers": _orphans,
    "shards-and-merge": _shards,
    "kills": _kills,
}


def torture(
    folder: Path,
    *,
    seed: int,
    minutes: float,
    effort: Effort,
    only: Sequence[str] = (),
    told: Callable[[str], object] = lambda line: None,
) -> list[Result]:
    """Runs the cases in `folder`, on whatever file system it is; `told` hears of each.

    What passed in this folder with the same seed, effort and version is not done again. The folder
    of a case that failed is kept, the others are removed.

    Raises:
        LookupError: If a case of `only` is unknown.
        ValueError: If the folder holds something else.
    """
    unknown = [name for name in only if name not in CASES]
    if unknown:
        raise LookupError(f"unknown case {unknown[0]!r}; known: {', '.join(CASES)}")
    end = time.monotonic() + 60 * minutes
    state = _State(folder, {"seed": seed, "kills": effort.kills, "times": effort.times})
    session = Session(folder / "session", identities=6, prompts=2, samples=2)
    results = []
    for name, case in CASES.items():
        if only and name not in only:
            continue
        result = state.passed(name)
        if result is None:
            result = _result(name, case, session, folder, seed, effort, end, state)
        results.append(result)
        told(line(result))
    return results


def _result(
    name: str,
    case: Callable[[Task], str],
    session: Session,
    folder: Path,
    seed: int,
    effort: Effort,
    end: float,
    state: "_State",
) -> Result:
    began = time.monotonic()
    if began > end:
        return Result(name, "not run", 0.0, "no time left; the same command goes on")
    scene = folder / name
    shutil.rmtree(scene, ignore_errors=True)
    scene.mkdir(parents=True)
    notes = state.notes(name)
    # What was done before moves the chances on, so that a resumed case is not the same again.
    chance = random.Random(f"{seed} {name} {sum(notes.values())}")
    try:
        said = case(Task(session, scene, chance, effort, partial(_before, end), notes))
        outcome = "passed"
    except FaultError as error:
        said, outcome = f"{error}; see {scene}", "failed"
    except SkippedError as error:
        said, outcome = str(error), "skipped"
    except _TimeUpError as error:
        said, outcome = f"{error}; the same command goes on", "not run"
    result = Result(name, outcome, time.monotonic() - began, plain(said))
    if outcome != "failed":
        shutil.rmtree(scene, ignore_errors=True)
    state.keep(result, notes if outcome == "not run" else Counter())
    return result


def _before(end: float) -> bool:
    return time.monotonic() < end


def line(result: Result) -> str:
    """One row of the table, at most 80 columns wide; a failure is told in full below it."""
    text = f"{result.case:<17} {result.outcome:<7} {result.seconds:>6.1f} s  {result.said}"
    if result.outcome == "failed":
        return f"{text[: text.index(result.said)].rstrip()}\n  {result.said}"
    return text if len(text) <= WIDTH else text[: WIDTH - 3] + "..."


def summary(results: Sequence[Result]) -> str:
    """The last line: how many cases ended how."""
    counts = Counter(result.outcome for result in results)
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))


class _State:
    """`torture.json`: what was asked for, and what passed."""

    def __init__(self, folder: Path, asked: Mapping[str, int]) -> None:
        self._path = folder / "torture.json"
        if folder.exists() and any(folder.iterdir()) and not self._path.exists():
            raise ValueError(f"{folder} is not empty; choose another folder with --output")
        fresh = {"format": FORMAT, "version": idbench.__version__, **asked}
        self._content: dict[str, Any] = {**fresh, "cases": {}, "notes": {}}
        if self._path.exists():
            old = json.loads(self._path.read_text(encoding="utf-8"))
            if {key: old.get(key) for key in fresh} == fresh:
                self._content = old
        self._write()

    def passed(self, case: str) -> Result | None:
        found = self._content["cases"].get(case)
        return Result(**found) if found and found["outcome"] == "passed" else None

    def notes(self, case: str) -> Counter[str]:
        return Counter(self._content["notes"].get(case, {}))

    def keep(self, result: Result, notes: Counter[str]) -> None:
        self._content["cases"][result.case] = {
            "case": result.case,
            "outcome": result.outcome,
            "seconds": result.seconds,
            "said": result.said,
        }
        self._content["notes"][result.case] = dict(notes)
        self._write()

    def _write(self) -> None:
        write_whole(self._path, json.dumps(self._content, indent=2).encode() + b"\n")
