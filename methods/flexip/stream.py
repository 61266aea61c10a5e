"""An endless, shuffled stream of rows whose every place can be computed.

The k-th row is a function of (shards, seed, lane, k) alone, so that a run goes on exactly where it
was without the state of any loader, and lanes, one per reading process, read different files.
"""

from collections.abc import Sequence

from idbench.methods.common.training import rng_of
from idbench.methods.flexip.shards import Row, RowGroup

_GROUPS, _ROWS = 0x6701, 0x6702  # keep the draws apart from all others of the same seed


class RowStream:
    """The rows of one pool as one lane sees them, epoch after epoch.

    An epoch shuffles row groups and deals them out to the lanes; a lane reads `window` groups at a
    time and shuffles their rows. With fewer groups than lanes every lane reads all of them, each
    in its own order.
    """

    def __init__(
        self,
        groups: Sequence[RowGroup],
        *,
        seed: int,
        pool: int = 0,
        lane: int = 0,
        lanes: int = 1,
        window: int = 16,
    ) -> None:
        """Keeps the pieces; nothing is read yet.

        Args:
            groups: Of all shards of the pool.
            seed: Of the order.
            pool: Number of the pool, which gets an order of its own.
            lane: Which lane this is, from 0.
            lanes: How many there are.
            window: Row groups that are held in memory and mixed.

        Raises:
            ValueError: If there are no rows.
        """
        self.groups = [group for group in groups if group.rows]
        if not self.groups:
            raise ValueError("a stream needs at least one row")
        self.seed, self.pool, self.lane, self.lanes = seed, pool, lane, lanes
        self.window = window
        self._ends: list[int] = []  # rows of this lane up to the end of each epoch
        self._epoch: tuple[int, list[list[RowGroup]]] | None = None
        self._held: tuple[tuple[int, int], list[Row]] | None = None

    def __getitem__(self, k: int) -> Row:
        """The k-th row of the lane, k counted from 0 without end."""
        epoch, place = self._locate(k)
        for number, groups in enumerate(self._windows(epoch)):
            rows = sum(group.rows for group in groups)
            if place < rows:
                return self._read(epoch, number, groups)[place]
            place -= rows
        raise IndexError(k)

    def _locate(self, k: int) -> tuple[int, int]:
        """Epoch of the k-th row, and its place in it."""
        while not self._ends or self._ends[-1] <= k:
            windows = self._windows(len(self._ends))
            rows = sum(group.rows for groups in windows for group in groups)
            self._ends.append((self._ends[-1] if self._ends else 0) + rows)
        epoch = next(number for number, end in enumerate(self._ends) if k < end)
        return epoch, k - (self._ends[epoch - 1] if epoch else 0)

    def _windows(self, epoch: int) -> list[list[RowGroup]]:
        """This lane's row groups of an epoch, in the order and company they are read in."""
        if self._epoch is None or self._epoch[0] != epoch:
            if len(self.groups) >= self.lanes:
                order = rng_of(self.seed, _GROUPS, self.pool, epoch).permutation(len(self.groups))
                mine = order[self.lane :: self.lanes]
            else:
                rng = rng_of(self.seed, _GROUPS, self.pool, epoch, self.lane + 1)
                mine = rng.permutation(len(self.groups))
            windows = [
                [self.groups[index] for index in mine[start : start + self.window]]
                for start in range(0, len(mine), self.window)
            ]
            self._epoch = (epoch, windows)
        return self._epoch[1]

    def _read(self, epoch: int, number: int, groups: Sequence[RowGroup]) -> list[Row]:
        """The rows of a window, shuffled; the last window that was read stays in memory."""
        if self._held is None or self._held[0] != (epoch, number):
            self._held = None  # frees the old rows before the new ones are read
            rows = [row for group in groups for row in group.read()]
            order = rng_of(self.seed, _ROWS, self.pool, epoch, self.lane, number)
            shuffled = [rows[index] for index in order.permutation(len(rows))]
            self._held = ((epoch, number), shuffled)
        return self._held[1]
