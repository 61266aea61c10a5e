"""Records written while the next work is under way: a commit waits for the disk, nobody else."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import ParamSpec, Self

P = ParamSpec("P")

MOST_WAITING = 8


class Recorder:
    """Calls functions one after another in a thread of its own.

    A context manager: its end waits until all is written. What a call raises is raised by the next
    one, or at the end; after it nothing more is written.
    """

    def __init__(self) -> None:
        """Begins with nothing to write."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recorder")
        self._waiting: deque[Future[None]] = deque()
        self._failed = False

    def write(self, function: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Has `function` called; waits if too many calls wait already."""
        while self._waiting and (self._waiting[0].done() or len(self._waiting) >= MOST_WAITING):
            self._waiting.popleft().result()

        def call() -> None:
            if self._failed:
                return
            try:
                function(*args, **kwargs)
            except BaseException:
                self._failed = True
                raise

        self._waiting.append(self._thread.submit(call))

    def __enter__(self) -> Self:
        """The recorder itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Waits for the last call; its error counts only where there is no other."""
        self._thread.shutdown(wait=True)
        if error is None:
            while self._waiting:
                self._waiting.popleft().result()
