"""What must outlive the process: answers that were paid for and tickets of work under way."""

import os
import tempfile
import threading
from pathlib import Path

from idbench.methods.stopped import StoppedError


class Kept:
    """Answers and tickets by key, in a folder, or in memory where there is none.

    Files are written whole: after a kill an answer is there or it is not.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Makes nothing yet."""
        self._folder = folder
        self._memory: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def answer(self, key: str) -> bytes | None:
        """What was kept under the key."""
        return self._read(f"{key}.answer")

    def keep_answer(self, key: str, content: bytes) -> None:
        """Keeps an answer; its ticket is no longer needed.

        Raises:
            StoppedError: If the disk refuses.
        """
        if self._folder is not None:  # in memory, answers would pile up for nobody
            self._write(f"{key}.answer", content)
        self.drop_ticket(key)

    def ticket(self, key: str) -> str | None:
        """Where the work under this key can be asked for."""
        found = self._read(f"{key}.ticket")
        return None if found is None else found.decode(errors="replace")

    def keep_ticket(self, key: str, ticket: str) -> None:
        """Keeps a ticket.

        Raises:
            StoppedError: If the disk refuses.
        """
        self._write(f"{key}.ticket", ticket.encode())

    def drop_ticket(self, key: str) -> None:
        """Forgets a ticket, if there is one."""
        with self._lock:
            self._memory.pop(f"{key}.ticket", None)
        if self._folder is not None:
            (self._folder / f"{key}.ticket").unlink(missing_ok=True)

    def _read(self, name: str) -> bytes | None:
        if self._folder is None:
            return self._memory.get(name)
        try:
            return (self._folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _write(self, name: str, content: bytes) -> None:
        if self._folder is None:
            with self._lock:
                self._memory[name] = content
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=".partial-", dir=self._folder)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(self._folder / name)
        except OSError as error:
            raise StoppedError(
                f"cannot keep an answer in {self._folder}: {error.strerror or error}; free space, "
                "then run the same command again"
            ) from error
