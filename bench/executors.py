"""Runs batches of work in this process or in several; order and results do not depend on which."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Generic, Protocol, TypeVar

Task = TypeVar("Task", contravariant=True)
Result = TypeVar("Result", covariant=True)
T = TypeVar("T")
R = TypeVar("R")


class WorkerDiedError(RuntimeError):
    """A worker process was killed or crashed; what it had returned is recorded."""


class Worker(Protocol, Generic[Task, Result]):
    """Does the work; made once per process, so that what it loads is loaded once."""

    def __call__(self, task: Task, /) -> Result:
        """Does one batch."""
        ...


_worker: Callable[[Any], Any] | None = None


def _start(factory: Callable[[], Callable[[Any], Any]]) -> None:
    global _worker
    _worker = factory()


def _work(task: Any) -> Any:
    if _worker is None:
        raise RuntimeError("the worker process was not started")
    return _worker(task)


def run_batches(
    tasks: Iterable[T], factory: Callable[[], Worker[T, R]], *, workers: int
) -> Iterator[R]:
    """Yields the result of every task, as they finish.

    With one worker the work is done here. With more, each process calls `factory` once and pulls
    tasks, at most two in flight per process, so that a long plan stays in the driver.

    Raises:
        WorkerDiedError: If a process died. Results already yielded stand.
    """
    if workers <= 1:
        worker = factory()
        for task in tasks:
            yield worker(task)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start, initargs=(factory,)) as pool:
        pending: set[Future[R]] = set()
        queue = iter(tasks)
        try:
            exhausted = False
            while pending or not exhausted:
                while not exhausted and len(pending) < 2 * workers:
                    try:
                        pending.add(pool.submit(_work, next(queue)))
                    except StopIteration:
                        exhausted = True
                if not pending:
                    return
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise WorkerDiedError(
                "a worker process died (killed, out of memory or crashed); what was finished is "
                "recorded, run the same command again to go on, with fewer --workers or a smaller "
                "--batch-size if it happens again"
            ) from error
        finally:
            for future in pending:
                future.cancel()
