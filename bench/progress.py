"""Progress of long work: a bar with rate and time left on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self, TextIO

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 15.0


class Progress:
    """Counts units of work towards `total`, on stderr; a context manager."""

    def __init__(self, what: str, total: int, unit: str, *, stream: TextIO | None = None) -> None:
        """Starts counting; nothing is printed for a total of 0."""
        self._what, self._total, self._unit = what, total, unit
        self._stream = stream or sys.stderr
        self._done = 0
        self._start = self._last = time.monotonic()
        self._bar = (
            tqdm(total=total, desc=what, unit=unit, file=self._stream, dynamic_ncols=True)
            if total and self._stream.isatty()
            else None
        )

    def advance(self, count: int = 1) -> None:
        """Says that `count` more units are done."""
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        elif self._total and time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            rate = self._done / (self._last - self._start)
            left = (self._total - self._done) / rate if rate else float("inf")
            self._say(f"{self._done}/{self._total} {self._unit}, {rate:.2f}/s, {left:.0f} s left")

    def _say(self, text: str) -> None:
        self._stream.write(f"{self._what}: {text}\n")
        self._stream.flush()

    def __enter__(self) -> Self:
        """The counter itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the bar; says the time where there was none."""
        if self._bar is not None:
            self._bar.close()
        elif self._total and error is None:
            seconds = time.monotonic() - self._start
            self._say(f"{self._done} {self._unit} in {seconds:.1f} s")
