"""What runs on the nodes of a Ray cluster: workers, and the one that remembers what they began.

Only tasks, keys and scalars travel; images are written where the task says.
"""

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from idbench.process_pool import portable

Answer = tuple[str, Any]  # ("result", value) or ("error", exception)


class Marks:
    """Remembers the task that each worker began last, for when it dies."""

    def __init__(self) -> None:
        """Nothing has begun."""
        self._begun: dict[str, int] = {}

    def begin(self, worker: str, number: int) -> None:
        """Notes that `worker` begins task `number`."""
        self._begun[worker] = number

    def begun(self, worker: str) -> int | None:
        """The number of the task that `worker` began last."""
        return self._begun.get(worker)


class Host:
    """Holds a worker, which is made once, and runs tasks through it one after another."""

    def __init__(self, name: str, marks: Any, folder: str, threads: str | None) -> None:
        """`marks` is the handle of a `Marks` actor; `threads` the OMP_NUM_THREADS of the driver.

        Ray limits the threads of a worker by the CPUs it takes; on the CPU the number of threads
        can move the last bit of a result, so they are those of the driver.
        """
        self._name, self._marks = name, marks
        self._worker: Callable[[Any], Any] | None = None
        if threads is None:
            os.environ.pop("OMP_NUM_THREADS", None)
        else:
            os.environ["OMP_NUM_THREADS"] = threads
        with contextlib.suppress(OSError):  # relative names of methods, where the folder exists
            os.chdir(folder)

    def place(self) -> tuple[str, int]:
        """Machine and process; that it answers shows that it has been started."""
        return socket.gethostname(), os.getpid()

    def load(self, factory: Callable[[], Callable[[Any], Any]], token: Path | None) -> Answer:
        """Makes the worker; `token` is a file that this node must see."""
        if token is not None and not token.is_file():
            return "error", FileNotFoundError(
                f"node {socket.gethostname()} does not see {token.parent}: give a folder that all "
                "nodes share as --output, or a folder of each node as --node-store"
            )
        try:
            self._worker = factory()
        except Exception as error:
            return "error", portable(error)
        return "result", None

    def run(self, number: int, task: Any) -> Answer:
        """Does a task, after it has said that it begins."""
        import ray

        if self._worker is None:
            return "error", RuntimeError("a task came before the worker was loaded")
        # Waits until the mark is kept elsewhere. Without marks a death is charged to the oldest.
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(self._marks.begin.remote(self._name, number))
        try:
            return "result", self._worker(task)
        except Exception as error:
            return "error", portable(error)


class Files:
    """Reads files of its node in pieces small enough to travel inside a reply."""

    def sizes(self, paths: list[str]) -> dict[str, int]:
        """Bytes of those files that this node has."""
        return {path: os.stat(path).st_size for path in paths if os.path.isfile(path)}  # noqa: PTH113, PTH116 - thousands of paths at once

    def read(self, path: str, start: int, count: int) -> bytes:
        """At most `count` bytes from `start`."""
        with Path(path).open("rb") as file:
            file.seek(start)
            return file.read(count)
