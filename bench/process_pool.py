"""Worker processes of this machine, started with spawn, each at one task at a time."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, TypeVar

from idbench.executors import Factory, WorkerDiedError
from idbench.work_queue import Entry, WorkQueue

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True)
class _Process(Generic[T]):
    slot: int  # which of the workers it is: it decides the device
    process: SpawnProcess
    pipe: Connection
    ready: bool = False
    entry: Entry[T] | None = None  # what it is at
    since: float = 0.0  # when it began that, or began to start


class ProcessPool(Generic[T, R]):
    """Keeps processes at work until the queue is empty."""

    def __init__(
        self,
        queue: WorkQueue[T, R],
        factories: Sequence[Factory[T, R]],
        timeout: float | None,
    ) -> None:
        """`factories` are given to the processes in turn: one per device."""
        self._queue, self._factories, self._timeout = queue, factories, timeout
        self._processes: list[_Process[T]] = []
        self._context = multiprocessing.get_context("spawn")
        self._failed_starts = 0
        self._error: Exception | None = None

    def results(self, workers: int) -> Iterator[R]:
        """The results, as they come.

        Raises:
            WorkerDiedError: If as many processes as there are workers, and three at least, die
                one after another before any is ready.
            Exception: What a worker raises.
        """
        try:
            while True:
                self._occupy(workers)
                if not any(p.entry for p in self._processes) and not self._queue.waiting():
                    return
                found = list(self._collect(workers))
                # Before the caller records anything: no worker waits for the disk.
                self._occupy(workers)
                yield from found
                if self._error is not None:  # only now: what the others made is not lost
                    raise self._error
        finally:
            self._stop()

    def _occupy(self, workers: int) -> None:
        """Starts the processes that are missing and gives work to those that have none."""
        while len(self._processes) < workers and self._queue.waiting():
            taken = {process.slot for process in self._processes}
            self._start(next(slot for slot in range(workers) if slot not in taken))
        for process in self._processes:
            # Only to one that waits for it: two ends that write at once could block each other.
            if process.ready and process.entry is None and self._queue.waiting():
                self._hand(process, self._queue.take())

    def _stop(self) -> None:
        for process in self._processes:
            process.process.kill()
            process.process.join()
            process.pipe.close()

    def _start(self, slot: int) -> None:
        ours, theirs = self._context.Pipe()
        factory = self._factories[slot % len(self._factories)]
        process = self._context.Process(target=_serve, args=(theirs, factory), daemon=True)
        process.start()
        theirs.close()
        self._processes.append(_Process(slot, process, ours, since=time.monotonic()))

    def _hand(self, process: _Process[T], entry: Entry[T]) -> None:
        process.entry, process.since = entry, time.monotonic()
        with contextlib.suppress(OSError):  # it died meanwhile: its end of the pipe says so
            process.pipe.send(entry.task)

    def _collect(self, workers: int) -> Iterator[R]:
        """Waits for the next results, deaths or hangs, and deals with them."""
        pipes = {process.pipe: process for process in self._processes}
        for pipe in wait(pipes, timeout=self._patience()):
            process = pipes[pipe]  # type: ignore[index]  # `wait` gives back what it was given
            try:
                kind, value = process.pipe.recv()
            except (EOFError, OSError):
                process.process.join()
                fault = f"its worker died (exit {process.process.exitcode})"
                yield from self._lost(process, fault, workers)
                continue
            except Exception as error:  # what is no message raises anything when it is unpickled
                process.process.kill()
                process.process.join()
                fault = f"its worker sent rubbish ({type(error).__name__})"
                yield from self._lost(process, fault, workers)
                continue
            if kind == "ready":
                process.ready, self._failed_starts = True, 0
            elif kind == "error":
                self._error = value
            else:
                process.entry = None
                yield value
        if self._timeout is not None:
            for process in list(self._processes):
                busy = process.entry is not None or not process.ready
                if busy and time.monotonic() - process.since > self._timeout:
                    process.process.kill()
                    process.process.join()
                    fault = f"its worker hung for {self._timeout:g} s"
                    yield from self._lost(process, fault, workers)

    def _patience(self) -> float | None:
        if self._timeout is None:
            return None
        begun = [p.since for p in self._processes if p.entry is not None or not p.ready]
        return max(0.0, min(begun) + self._timeout - time.monotonic()) if begun else 0.0

    def _lost(self, process: _Process[T], fault: str, workers: int) -> Iterator[R]:
        """Takes a dead worker out; what it was at is split, tried again, or given up."""
        self._processes.remove(process)
        process.pipe.close()
        if not process.ready:
            self._failed_starts += 1
            if self._failed_starts >= max(3, workers):
                self._error = WorkerDiedError(starting(fault))
        elif process.entry is not None:
            yield from self._queue.charge(process.entry, fault)


def starting(fault: str) -> str:
    """What to say when workers do not get as far as their first task."""
    return (
        f"while it was starting, {fault}; what was finished is recorded. Check the memory and the "
        "log, or use fewer --workers"
    )


def _serve(pipe: Connection, factory: Callable[[], Callable[[Any], Any]]) -> None:
    """The life of a worker process: it ends when the driver closes its end of the pipe.

    It also ends, at once and whatever it is at, when the driver dies: what it would still write
    could replace an image that the next driver has recorded.
    """
    threading.Thread(target=_end_with_driver, daemon=True).start()
    # The driver decides what an interrupt from the keyboard means; it reaches the whole group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        worker = factory()
        pipe.send(("ready", None))
        while True:
            pipe.send(("result", worker(pipe.recv())))
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:
        pipe.send(("error", portable(error)))


def _end_with_driver() -> None:
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def portable(error: Exception) -> Exception:
    """The error with its traceback as a note; another one in its place if it cannot be pickled."""
    import pickle

    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class does when it is copied
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
