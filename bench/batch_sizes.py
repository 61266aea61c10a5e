"""How many samples a method is asked for at once: the most that fit, found once and remembered."""

import json
from pathlib import Path

from idbench.files import write_whole

# On the CPU memory does not refuse, it swaps; and larger batches are no faster there.
AUTO_ON_CPU = 8
AUTO_ON_DEVICE = 64
FILE = "batch_sizes.json"


class BatchSearch:
    """Doubles while batches fit; halves the gap between what fitted and what did not."""

    def __init__(self, start: int, most: int) -> None:
        """Begins with batches of `start` and never asks for more than `most`."""
        self._most = max(1, most)
        self._next = max(1, min(start, self._most))
        self._fits, self._refused = 0, self._most + 1

    @property
    def size(self) -> int:
        """What to ask for next."""
        return self._next

    @property
    def settled(self) -> bool:
        """Whether it is known that `size` fits and one more does not, or may not be asked for."""
        return self._fits > 0 and self._refused - self._fits <= 1

    def learn(self, fitted: int, refused: int | None) -> None:
        """Takes in the largest part of a batch that fitted and the smallest that did not.

        Both may come late, from a worker that was asked before the last answer.
        """
        if refused is not None and refused <= self._refused:
            self._refused = max(2, refused)
            if self._fits >= self._refused:  # it did fit once; other things lie in memory now
                self._fits = min(fitted, self._refused - 1)
        if fitted < self._refused:
            self._fits = max(self._fits, fitted)
        if self._fits == 0:
            return
        if self._refused > self._most:
            self._next = min(2 * self._fits, self._most)
        elif self.settled:
            self._next = self._fits
        else:
            self._next = (self._fits + self._refused) // 2


class BatchMemory:
    """The sizes that were found, in a file of the workspace; losing it costs a search."""

    def __init__(self, workspace: Path) -> None:
        """Reads the file if there is one that can be read."""
        self._path = workspace / FILE
        self._sizes: dict[str, int] = {}
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        if isinstance(found, dict):
            self._sizes = {k: v for k, v in found.items() if type(v) is int and v > 0}

    def search(self, key: str, *, start: int, most: int) -> BatchSearch:
        """A search that begins, and ends, with what is remembered under `key`."""
        known = self._sizes.get(key)
        return BatchSearch(start, most) if known is None else BatchSearch(known, min(known, most))

    def keep(self, key: str, search: BatchSearch) -> None:
        """Remembers the size if it is settled and new."""
        if search.settled and self._sizes.get(key) != search.size:
            self._sizes[key] = search.size
            text = json.dumps(self._sizes, indent=2, sort_keys=True)
            write_whole(self._path, (text + "\n").encode())
