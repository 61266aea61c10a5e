"""Stopping in good order: what has begun is finished and recorded, nothing new is begun."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Whether somebody asked to stop; calling it tells."""

    def __init__(self) -> None:
        """Nobody has asked yet."""
        self.requested = False

    def __call__(self) -> bool:
        """Whether to begin nothing more."""
        return self.requested


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Turns the first interrupt or SIGTERM into a wish; the second ends the process at once.

    Schedulers send SIGTERM before they kill, so a batch that was nearly finished is not lost.
    Outside of the main thread signals cannot be caught, and the wish never comes.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        del number, frame
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True
        sys.stderr.write("\nstopping when what has begun is finished; once more stops at once\n")

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
