"""Runs work in this process, in several, or on a Ray cluster; results do not depend on which.

A worker process that dies (killed, crashed, out of memory) or hangs costs nothing but time: the
task it was in is tried again in smaller parts, everything else it held goes back to the queue, and
another process takes its place. A part that cannot be split and kills its worker twice is poison:
the caller says what is recorded for it, and the run goes on.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from idbench.work_queue import Parts, WorkQueue, never

Task = TypeVar("Task", contravariant=True)
Result = TypeVar("Result", covariant=True)
T = TypeVar("T")
R = TypeVar("R")


class WorkerDiedError(RuntimeError):
    """Workers die before they have done anything; there is no use in starting more."""


class Worker(Protocol, Generic[Task, Result]):
    """Does the work; made once per process, so that what it loads is loaded once."""

    def __call__(self, task: Task, /) -> Result:
        """Does one task."""
        ...


Factory = Callable[[], Worker[T, R]]


@dataclass(frozen=True, kw_only=True, slots=True)
class RayOptions:
    """How to use Ray.

    `address` is that of a cluster ("auto" finds one on this machine); without it a cluster of
    this machine alone is started, and ends with this process. `gpus` and `cpus` are what a worker
    takes, fractions allowed. The dashboard is off unless `dashboard`, and then on loopback only.
    `shared` is a folder that every node must see.
    """

    address: str | None = None
    gpus: float = 0.0
    cpus: float = 1.0
    dashboard: bool = False
    shared: Path | None = None


def run_batches(
    tasks: Iterable[T],
    factory: Factory[T, R] | Sequence[Factory[T, R]],
    *,
    workers: int,
    parts: Parts[T, R],
    timeout: float | None = None,
    ray: RayOptions | None = None,
    in_process: bool = True,
    stop: Callable[[], bool] = never,
) -> Iterator[R]:
    """Yields the result of every task, as they finish.

    With one worker and no `timeout` the work is done in this process, if `in_process`. Else each
    process calls `factory` once, or one of several factories in turn (one per device); `timeout`
    is the longest that one task may take, in seconds, the loading of the worker included. Only a
    few tasks are held outside of `tasks` at a time. When `stop` says so, no further task is
    begun; what is under way is finished.

    Raises:
        WorkerDiedError: If processes die before they are ready for work.
        ModuleNotFoundError: If `ray` is wanted and not installed.
        Exception: What a worker raises is raised here.
    """
    factories = list(factory) if isinstance(factory, Sequence) else [factory]
    queue = WorkQueue(tasks, parts, stop)
    if ray is not None:
        from idbench.ray_executor import RayPool

        yield from RayPool(queue, factories[0], timeout, ray).results(workers)
        return
    if workers <= 1 and timeout is None and in_process:
        worker = factories[0]()
        while queue.waiting():
            yield worker(queue.take().task)
        return
    from idbench.process_pool import ProcessPool

    yield from ProcessPool(queue, factories, timeout).results(workers)
