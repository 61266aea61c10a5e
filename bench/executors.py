"""Runs work in this process or in several; order and results do not depend on which.

A worker process that dies (killed, crashed, out of memory) or hangs costs nothing but time: the
task it was in is tried again in smaller parts, everything else it held goes back to the queue, and
another process takes its place. A part that cannot be split and kills its worker twice is poison:
the caller says what is recorded for it, and the run goes on.
"""

import contextlib
import multiprocessing
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, Protocol, TypeVar

Task = TypeVar("Task", contravariant=True)
Result = TypeVar("Result", covariant=True)
T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

DEATHS_OF_POISON = 2


class WorkerDiedError(RuntimeError):
    """Workers die before they have done anything; there is no use in starting more."""


class Worker(Protocol, Generic[Task, Result]):
    """Does the work; made once per process, so that what it loads is loaded once."""

    def __call__(self, task: Task, /) -> Result:
        """Does one task."""
        ...


class Parts(Protocol[T, R_co]):
    """How tasks are taken apart, and what stands for one that cannot be done."""

    def split(self, task: T, /) -> Sequence[T]:
        """The smallest tasks that this one consists of; itself if it is one."""
        ...

    def poison(self, task: T, detail: str, /) -> R_co:
        """The result of a smallest task whose worker died or hung twice."""
        ...


def run_batches(
    tasks: Iterable[T],
    factory: Callable[[], Worker[T, R]],
    *,
    workers: int,
    parts: Parts[T, R],
    timeout: float | None = None,
) -> Iterator[R]:
    """Yields the result of every task, as they finish.

    With one worker and no `timeout` the work is done in this process. Else each process calls
    `factory` once; `timeout` is the longest that one task may take, in seconds, the loading of the
    worker included. Only a few tasks are held outside of `tasks` at a time.

    Raises:
        WorkerDiedError: If a process dies before it is ready for work.
        Exception: What a worker raises is raised here.
    """
    if workers <= 1 and timeout is None:
        worker = factory()
        for task in tasks:
            yield worker(task)
        return
    pool = _Pool(tasks, factory, parts, timeout)
    try:
        yield from pool.results(workers)
    finally:
        pool.stop()


@dataclass(slots=True)
class _Entry(Generic[T]):
    task: T
    deaths: int = 0


@dataclass(slots=True)
class _Process(Generic[T]):
    process: SpawnProcess
    pipe: Connection
    ready: bool = False
    entry: _Entry[T] | None = None  # what it is at
    since: float = 0.0  # when it began that, or began to start


class _Pool(Generic[T, R]):
    def __init__(
        self,
        tasks: Iterable[T],
        factory: Callable[[], Worker[T, R]],
        parts: Parts[T, R],
        timeout: float | None,
    ) -> None:
        self._tasks = iter(tasks)
        self._factory, self._parts, self._timeout = factory, parts, timeout
        self._again: deque[_Entry[T]] = deque()
        self._processes: list[_Process[T]] = []
        self._context = multiprocessing.get_context("spawn")

    def results(self, workers: int) -> Iterator[R]:
        while True:
            while len(self._processes) < workers and self._more():
                self._start()
            for process in self._processes:
                # Only to one that waits for it: two ends that write at once could block each other.
                if process.ready and process.entry is None and self._more():
                    self._hand(process, self._again.popleft())
            if not self._more() and not any(process.entry for process in self._processes):
                return
            yield from self._collect()

    def stop(self) -> None:
        for process in self._processes:
            process.process.kill()
            process.process.join()
            process.pipe.close()

    def _more(self) -> bool:
        """Whether a task waits; one is fetched from the plan if need be."""
        if not self._again:
            self._again.extend(_Entry(task) for task in _first(self._tasks))
        return bool(self._again)

    def _start(self) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._factory), daemon=True)
        process.start()
        theirs.close()
        self._processes.append(_Process(process, ours, since=time.monotonic()))

    def _hand(self, process: _Process[T], entry: _Entry[T]) -> None:
        process.entry, process.since = entry, time.monotonic()
        with contextlib.suppress(OSError):  # it died meanwhile: its end of the pipe says so
            process.pipe.send(entry.task)

    def _collect(self) -> Iterator[R]:
        """Waits for the next results, deaths or hangs, and deals with them."""
        pipes = {process.pipe: process for process in self._processes}
        for pipe in wait(pipes, timeout=self._patience()):
            process = pipes[pipe]  # type: ignore[index]  # `wait` gives back what it was given
            try:
                kind, value = process.pipe.recv()
            except (EOFError, OSError):
                process.process.join()
                yield from self._lost(process, f"its worker died (exit {process.process.exitcode})")
                continue
            if kind == "ready":
                process.ready = True
            elif kind == "error":
                raise value
            else:
                process.entry = None
                yield value
        if self._timeout is not None:
            for process in list(self._processes):
                busy = process.entry is not None or not process.ready
                if busy and time.monotonic() - process.since > self._timeout:
                    process.process.kill()
                    process.process.join()
                    yield from self._lost(process, f"its worker hung for {self._timeout:g} s")

    def _patience(self) -> float | None:
        if self._timeout is None:
            return None
        begun = [p.since for p in self._processes if p.entry is not None or not p.ready]
        return max(0.0, min(begun) + self._timeout - time.monotonic()) if begun else 0.0

    def _lost(self, process: _Process[T], fault: str) -> Iterator[R]:
        """Takes a dead worker out; what it was at is split, tried again, or given up."""
        self._processes.remove(process)
        process.pipe.close()
        if not process.ready:
            raise WorkerDiedError(
                f"while it was starting, {fault}; what was finished is recorded. Check the memory "
                "and the log, or use fewer --workers"
            )
        if process.entry is None:
            return
        task, deaths = process.entry.task, process.entry.deaths + 1
        smaller = self._parts.split(task)
        if len(smaller) > 1:
            self._again.extend(_Entry(part) for part in smaller)
        elif deaths < DEATHS_OF_POISON:
            self._again.append(_Entry(task, deaths))
        else:
            yield self._parts.poison(task, f"{fault}, {deaths} times")


def _first(tasks: Iterator[T]) -> list[T]:
    for task in tasks:
        return [task]
    return []


def _serve(pipe: Connection, factory: Callable[[], Callable[[Any], Any]]) -> None:
    """The life of a worker process: it ends when the driver closes its end of the pipe."""
    try:
        worker = factory()
        pipe.send(("ready", None))
        while True:
            pipe.send(("result", worker(pipe.recv())))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return
    except Exception as error:
        error.add_note("".join(traceback.format_exception(error)))
        try:
            pipe.send(("error", error))
        except (TypeError, AttributeError, OSError):  # an exception that cannot be pickled
            pipe.send(("error", RuntimeError(f"{type(error).__name__}: {error}")))
