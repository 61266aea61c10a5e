"""Work in processes: every task once, whoever dies, hangs or raises."""

import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from idbench.executors import WorkerDiedError, run_batches

pytestmark = pytest.mark.usefixtures("importable")

Batch = tuple[int, ...]


@dataclass(frozen=True)
class Squares:
    """Squares numbers; a number may kill, hang or raise, always or only the first time."""

    kills: Batch = ()
    hangs: Batch = ()
    raises: Batch = ()
    once: Path | None = None

    def __call__(self, task: Batch) -> dict[int, int | str]:
        for number in task:
            if number in self.raises:
                raise ValueError(f"no square of {number}")
            if self._strikes(number, self.kills):
                os.kill(os.getpid(), signal.SIGKILL)
            if self._strikes(number, self.hangs):
                time.sleep(60)
        return {number: number * number for number in task}

    def _strikes(self, number: int, numbers: Batch) -> bool:
        if number not in numbers:
            return False
        if self.once is None:
            return True
        mark = self.once / str(number)
        fresh = not mark.exists()
        mark.touch()
        return fresh


class Numbers:
    def split(self, task: Batch) -> Sequence[Batch]:
        return [(number,) for number in task]

    def poison(self, task: Batch, detail: str) -> dict[int, int | str]:
        return {task[0]: detail}


def dies() -> Squares:
    os.kill(os.getpid(), signal.SIGKILL)
    return Squares()


def run(
    worker: Squares, count: int, *, size: int = 3, workers: int = 2, timeout: float | None = None
) -> dict[int, int | str]:
    batches = [tuple(range(count))[start : start + size] for start in range(0, count, size)]
    merged: dict[int, int | str] = {}
    factory = partial(type(worker), worker.kills, worker.hangs, worker.raises, worker.once)
    for result in run_batches(batches, factory, workers=workers, parts=Numbers(), timeout=timeout):
        assert not merged.keys() & result.keys(), "a task was counted twice"
        merged |= result
    return merged


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_task_is_done_once(workers: int) -> None:
    assert run(Squares(), 20, workers=workers) == {n: n * n for n in range(20)}


def test_no_tasks_start_no_process() -> None:
    assert list(run_batches([], dies, workers=4, parts=Numbers())) == []


def test_a_worker_that_dies_once_costs_nothing(tmp_path: Path) -> None:
    found = run(Squares(kills=(4,), once=tmp_path), 12)
    assert found == {n: n * n for n in range(12)}


def test_poison_is_charged_to_the_one_that_kills() -> None:
    found = run(Squares(kills=(4, 10)), 12)
    assert {n for n, value in found.items() if isinstance(value, str)} == {4, 10}
    assert found[4] == "its worker died (exit -9), 2 times"
    assert sorted(found) == list(range(12))


def test_a_hang_is_ended_and_charged() -> None:
    found = run(Squares(hangs=(2,)), 6, timeout=8)
    assert found[2] == "its worker hung for 8 s, 2 times"
    assert {n: value for n, value in found.items() if n != 2} == {
        n: n * n for n in range(6) if n != 2
    }


def test_a_timeout_with_one_worker_uses_a_process() -> None:
    assert run(Squares(), 3, workers=1, timeout=60) == {0: 0, 1: 1, 2: 4}


def test_an_error_of_the_worker_reaches_the_driver() -> None:
    with pytest.raises(ValueError, match="no square of 3"):
        run(Squares(raises=(3,)), 6)


def test_workers_that_cannot_start_end_the_run() -> None:
    with pytest.raises(WorkerDiedError, match="while it was starting"):
        list(run_batches([(1,)], dies, workers=2, parts=Numbers()))


class Mirror:
    def __call__(self, task: bytes) -> bytes:
        return task[::-1]


class Whole:
    def split(self, task: bytes) -> Sequence[bytes]:
        return [task]

    def poison(self, task: bytes, detail: str) -> bytes:
        return detail.encode()


def test_tasks_and_results_larger_than_a_pipe_do_not_block() -> None:
    tasks = [bytes([number]) * 3_000_000 + b"x" for number in range(6)]
    found = run_batches(tasks, Mirror, workers=2, parts=Whole(), timeout=60)
    assert sorted(found) == sorted(task[::-1] for task in tasks)


class Rubbish:
    def __call__(self, task: bytes) -> bytes:
        if task == b"bad":
            pipe = sys._getframe(1).f_locals["pipe"]
            pipe.send_bytes(b"no pickle")
        return task


def test_a_worker_that_sends_rubbish_is_replaced() -> None:
    found = run_batches([b"a", b"bad", b"b"], Rubbish, workers=2, parts=Whole(), timeout=60)
    assert sorted(found) == [b"a", b"b", b"its worker sent rubbish (UnpicklingError), 2 times"]
