"""When the next call may go out: a rate limit that threads share, and waits that grow."""

import math
import random
import threading
import time
from email.utils import parsedate_to_datetime

LONGEST_WAIT = 300.0  # seconds; a service that asks for more is not waited for


class Pace:
    """Lets calls through one after the other, at most so many per minute.

    A service that asks for a pause pauses all threads.
    """

    def __init__(self, per_minute: float | None = None) -> None:
        """None is no limit.

        Raises:
            ValueError: If the limit is not positive.
        """
        if per_minute is not None and per_minute <= 0:
            raise ValueError(f"requests_per_minute must be positive, got {per_minute}")
        self._interval = 0.0 if per_minute is None else 60.0 / per_minute
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self, stop: threading.Event) -> None:
        """Returns when the next call may go out, or when `stop` is set."""
        while not stop.is_set():
            with self._lock:
                now = time.monotonic()
                if now >= self._next:
                    self._next = now + self._interval
                    return
                delay = self._next - now
            stop.wait(delay)

    def pause(self, seconds: float) -> None:
        """Nothing goes out for so long."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


def backoff(attempt: int, first: float) -> float:
    """Seconds before the next attempt: doubled each time, half of it by chance.

    Chance keeps threads that failed together from trying again together.
    """
    whole = min(first * 2.0**attempt, LONGEST_WAIT)
    return whole * (0.5 + 0.5 * random.random())


def retry_after(value: str | None) -> float | None:
    """Seconds that a `Retry-After` header asks for, as a number or a date; None without one."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        pass
    else:
        return max(0.0, seconds) if math.isfinite(seconds) else None
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
