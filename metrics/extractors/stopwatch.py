"""Measures how much of the time of extractors their networks take, where somebody asks."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class Stopwatch:
    """Seconds inside networks, by the clock and of this process's CPU; passes, and their inputs."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    passes: int = 0
    inputs: int = 0


_running: ContextVar[Stopwatch | None] = ContextVar("stopwatch", default=None)


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Adds up the passes of all networks that run inside the block, in this thread."""
    watch = Stopwatch()
    token = _running.set(watch)
    try:
        yield watch
    finally:
        _running.reset(token)


@contextmanager
def one_pass(inputs: int) -> Iterator[None]:
    """Around one pass of a network whose result is on the host when the block ends."""
    watch = _running.get()
    if watch is None:
        yield
        return
    start, cpu_start = time.perf_counter(), time.process_time()
    yield
    watch.seconds += time.perf_counter() - start
    watch.cpu_seconds += time.process_time() - cpu_start
    watch.passes += 1
    watch.inputs += inputs
