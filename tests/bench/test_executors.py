"""Batches of work: the same results in one process and in several, and a death that is reported."""

import os
import signal
from functools import partial

import pytest

from idbench.executors import WorkerDiedError, run_batches


class Squares:
    def __init__(self, deadly: int | None) -> None:
        self.deadly = deadly

    def __call__(self, task: int) -> tuple[int, int]:
        if task == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return task, task * task


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_is_done_once(workers: int) -> None:
    results = list(run_batches(range(20), partial(Squares, None), workers=workers))
    assert sorted(results) == [(number, number * number) for number in range(20)]


def test_no_tasks_start_no_process() -> None:
    assert list(run_batches([], partial(Squares, None), workers=4)) == []


def test_a_killed_worker_is_reported_after_what_was_finished() -> None:
    with pytest.raises(WorkerDiedError, match="run the same command again"):
        list(run_batches(range(10), partial(Squares, 3), workers=2))


def test_an_error_of_the_worker_reaches_the_driver() -> None:
    with pytest.raises(TypeError):
        list(run_batches(["a"], partial(Squares, None), workers=2))
