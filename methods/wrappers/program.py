"""A program kept running: lines in, JSON objects out, and an end that leaves nothing behind."""

import collections
import contextlib
import io
import json
import os
import queue
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

MAX_LINE = 2**20  # bytes of one line of output; longer ones are cut and count as chatter
TAIL_LINES = 40  # of chatter and stderr, kept to explain a failure
GRACE = 2.0  # seconds a program has to end by itself

_END = object()


class ProgramError(RuntimeError):
    """The program cannot go on. `reason` is a slug: not_found, died, timeout or bad_reply."""

    def __init__(self, reason: str, detail: str) -> None:
        """Keeps the reason and the detail for people."""
        super().__init__(detail)
        self.reason = reason


class Program:
    """A running program that is spoken to in lines of JSON.

    Reading and writing happen in threads, so that neither a program that does not read nor one
    that floods its output can block. The program runs in a session of its own and is ended, with
    all it has started, by `close`, when this object is dropped, and when the interpreter exits.
    """

    def __init__(
        self, words: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        """Starts the program.

        Raises:
            ProgramError: If it cannot be started.
        """
        try:
            self._process = subprocess.Popen(
                words,
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise ProgramError("not_found", f"cannot start {words[0]!r}: {error}") from error
        self._tail: collections.deque[str] = collections.deque(maxlen=TAIL_LINES)
        # Bounded, so that a flood waits in the pipe and not in memory.
        self._messages: queue.Queue[object] = queue.Queue(maxsize=1024)
        self._outbox: queue.Queue[bytes | None] = queue.Queue()
        self._stop = threading.Event()
        process = self._process
        tasks: tuple[tuple[Callable[..., None], tuple[object, ...]], ...] = (
            (_write, (process.stdin, self._outbox)),
            (_read, (process.stdout, self._messages, self._tail, self._stop)),
            (_listen, (process.stderr, self._tail)),
        )
        for task, arguments in tasks:
            # Not methods: a thread that held `self` would keep it from being dropped.
            self._listener = threading.Thread(target=task, args=arguments, daemon=True)
            self._listener.start()  # the last one, of standard error, is kept
        self._finalizer = weakref.finalize(self, _end, process, self._outbox, self._stop, GRACE)

    @property
    def alive(self) -> bool:
        """Whether the program still runs."""
        return self._finalizer.alive and self._process.poll() is None

    def send(self, message: Mapping[str, object]) -> None:
        """Queues one object as one line; what a dead program is told is lost."""
        self._outbox.put(json.dumps(message, ensure_ascii=True).encode() + b"\n")

    def receive(self, deadline: float) -> dict[str, Any]:
        """The next JSON object of the output; lines that are none are chatter.

        Args:
            deadline: On the clock of `time.monotonic`.

        Raises:
            ProgramError: If the output ends ("died") or the deadline passes ("timeout").
        """
        try:
            message = self._messages.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise ProgramError("timeout", f"no answer in time{self.tail()}") from None
        if isinstance(message, dict):
            return message
        self._messages.put(_END)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)
        self._listener.join(GRACE)  # its last words may still be on their way
        raise ProgramError("died", f"{self._exit()}{self.tail()}")

    def tail(self, lines: int = 5) -> str:
        """The end of what the program said besides its answers, ready to be appended."""
        said = list(self._tail)[-lines:]
        return f"; it said last: {' | '.join(said)[-600:]}" if said else ""

    def close(self, *, grace: float = GRACE) -> None:
        """Ends the program: end of input first, then, after `grace` seconds, by force."""
        if self._finalizer.detach():
            _end(self._process, self._outbox, self._stop, grace)

    def _exit(self) -> str:
        code = self._process.poll()
        if code is None:
            return "the program closed its output"
        if code < 0:
            return f"the program was ended by signal {-code} ({signal.Signals(-code).name})"
        return f"the program ended with exit code {code}"


def _write(stream: io.FileIO, outbox: "queue.Queue[bytes | None]") -> None:
    with contextlib.suppress(OSError):  # the reader notices the death of the program
        while (line := outbox.get()) is not None:
            while line:
                line = line[stream.write(line) :]
    with contextlib.suppress(OSError):
        stream.close()


def _read(
    stream: io.FileIO,
    messages: "queue.Queue[object]",
    tail: "collections.deque[str]",
    stop: threading.Event,
) -> None:
    with contextlib.suppress(OSError), io.BufferedReader(stream) as lines:
        while not stop.is_set() and (line := lines.readline(MAX_LINE)):
            message = _object(line)
            if message is None:
                _keep(line, tail)
            else:
                _deliver(message, messages, stop)
    _deliver(_END, messages, stop)


def _deliver(message: object, messages: "queue.Queue[object]", stop: threading.Event) -> None:
    while not stop.is_set():
        with contextlib.suppress(queue.Full):
            messages.put(message, timeout=0.1)
            return


def _listen(stream: io.FileIO, tail: "collections.deque[str]") -> None:
    with contextlib.suppress(OSError), io.BufferedReader(stream) as lines:
        while line := lines.readline(MAX_LINE):
            _keep(line, tail)


def _keep(line: bytes, tail: "collections.deque[str]") -> None:
    text = line[:500].decode(errors="replace").strip()
    if text:
        tail.append(text)


def _object(line: bytes) -> dict[str, Any] | None:
    """The JSON object of a line; None for everything else."""
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def _end(
    process: "subprocess.Popen[bytes]",
    outbox: "queue.Queue[bytes | None]",
    stop: threading.Event,
    grace: float,
) -> None:
    outbox.put(None)
    stop.set()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(grace)
    # The whole session, so that what the program started does not outlive it.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
