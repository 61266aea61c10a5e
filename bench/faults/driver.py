"""Runs verbs of the command line in processes that can be killed at any moment.

The processes are forked, so that one starts in milliseconds and two hundred kills take minutes.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from idbench.cli import main

# What the harness asks of the file system, between which a process can be killed exactly.
STEPS = frozenset(
    {
        "fcntl.flock",
        "open",
        "os.link",
        "os.mkdir",
        "os.remove",
        "os.rename",
        "os.symlink",
        "sqlite3.connect",
        "tempfile.mkstemp",
    }
)
# What the verbs import on use; imported before the fork, they cost a process nothing.
_PRELOADED = ("aggregate", "commands.export", "commands.generate", "commands.merge",
    "commands.score", "commands.table", "commands.run", "tables", "methods.wrappers.python",
    "methods.baselines.geometry")  # fmt: skip
CRASHED = 70  # exit code of a process that ended with a traceback


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: its exit code, negative for a signal, and what it said."""

    code: int
    out: str
    err: str

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.code == -signal.SIGKILL


def preload() -> None:
    """Imports what the verbs need, before any of them is forked."""
    for name in _PRELOADED:
        import_module(f"idbench.{name}")


class Driver:
    """One verb in a process of its own."""

    def __init__(
        self, argv: Sequence[str], log: Path, before: Callable[[], object] | None = None
    ) -> None:
        """Starts it. `log` names its two output files; `before` is called in the process first."""
        self._log = log
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _live(argv, log, before)

    def kill(self) -> None:
        """Sends SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self, seconds: float = 300.0) -> Ended:
        """Waits for its end.

        Raises:
            TimeoutError: If it lives longer than `seconds`; it is then killed.
        """
        end = time.monotonic() + seconds
        pause = 0.0005
        while True:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                break
            if time.monotonic() > end:
                self.kill()
                os.waitpid(self.pid, 0)
                raise TimeoutError(f"a process still ran after {seconds:g} s, see {self._log}.err")
            time.sleep(pause)
            pause = min(2 * pause, 0.02)
        return Ended(
            os.waitstatus_to_exitcode(status),
            Path(f"{self._log}.out").read_text(encoding="utf-8", errors="replace"),
            Path(f"{self._log}.err").read_text(encoding="utf-8", errors="replace"),
        )


def killed_at_step(number: int) -> Callable[[], None]:
    """For `before`: the process kills itself at its `number`-th step, from 1, on the files."""

    def plant() -> None:
        left = [number]

        def step(event: str, arguments: Any) -> None:
            if event in STEPS:
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(step)

    return plant


def counting_steps(counter: Path) -> Callable[[], None]:
    """For `before`: a byte is written to `counter` per step."""

    def plant() -> None:
        descriptor = os.open(counter, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)

        def step(event: str, arguments: Any) -> None:
            if event in STEPS:
                os.write(descriptor, b".")

        sys.addaudithook(step)

    return plant


def _live(argv: Sequence[str], log: Path, before: Callable[[], object] | None) -> None:
    """The life of the forked process; it never returns."""
    code = CRASHED
    try:
        for descriptor, suffix in ((1, "out"), (2, "err")):
            file = os.open(f"{log}.{suffix}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(file, descriptor)
        sys.stdout, sys.stderr = (
            open(number, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            for number in (1, 2)
        )
        if before is not None:
            before()
        code = main(argv)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 2
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code)
