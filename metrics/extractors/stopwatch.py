"""Measures how much of the time of extractors their networks take, where somebody asks."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class Stopwatch:
    """Seconds inside networks, and passes and inputs that went through them."""

    clock: Callable[[], float] = time.perf_counter
    seconds: float = 0.0
    passes: int = 0
    inputs: int = 0


_running: ContextVar[Stopwatch | None] = ContextVar("stopwatch", default=None)


@contextmanager
def stopwatch(clock: Callable[[], float] = time.perf_counter) -> Iterator[Stopwatch]:
    """Adds up the passes of all networks that run inside the block, in this thread.

    Args:
        clock: `time.perf_counter`, or `time.process_time` on a machine with other work to do.
    """
    watch = Stopwatch(clock)
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
    start = watch.clock()
    yield
    watch.seconds += watch.clock() - start
    watch.passes += 1
    watch.inputs += inputs
