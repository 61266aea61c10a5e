"""What hosted calls have cost, and a ceiling that no call may pass."""

import fcntl
import json
import threading
from pathlib import Path

LEDGER = "spending.jsonl"


class CeilingError(RuntimeError):
    """The next call could cost more than is left."""


class Spending:
    """A count of money, shared by the threads of a method and, through a file, by processes.

    The price of a call is written down before the call goes out and taken back where the service
    did no work for it: a process that is killed has counted too much rather than too little.
    Amounts are in the currency of the price.
    """

    def __init__(
        self, *, price: float, ceiling: float | None = None, ledger: Path | None = None
    ) -> None:
        """Counts from what the ledger holds.

        Args:
            price: Of one image.
            ceiling: Most that may be spent in all; None for no limit.
            ledger: A file of one JSON object per line that keeps the count when the process ends.

        Raises:
            ValueError: If an amount is negative, a ceiling has no price to count with, or the
                ledger is damaged.
        """
        if price < 0 or (ceiling is not None and ceiling < 0):
            raise ValueError(f"price and ceiling cannot be negative, got {price} and {ceiling}")
        if ceiling is not None and price == 0:
            raise ValueError("a ceiling needs the price of an image; set price_per_image")
        self._price, self._ceiling, self._ledger = price, ceiling, ledger
        self._lock = threading.Lock()
        self._counted, self._place, self._lines = 0.0, 0, 0
        self.total()

    def total(self) -> float:
        """What was spent, calls that are under way included."""
        with self._lock:
            return self._total()

    def reserve(self) -> "Reservation":
        """Counts the price of one call.

        Raises:
            CeilingError: If this call would pass the ceiling.
        """
        with self._lock:
            self._add(self._price, self._ceiling)
        return Reservation(self)

    def _give_back(self) -> None:
        with self._lock:
            self._add(-self._price, None)

    def _total(self) -> float:
        """Reads on from where it stopped: a ledger may have many lines."""
        if self._ledger is None or not self._ledger.is_file():
            return self._counted
        with self._ledger.open("rb") as file:
            file.seek(self._place)
            for line in file:
                if not line.endswith(b"\n"):  # somebody is writing it, or was killed in it
                    break
                self._lines += 1
                try:
                    self._counted += float(json.loads(line)["cost"])
                except (ValueError, KeyError, TypeError) as error:
                    raise ValueError(f"{self._ledger}, line {self._lines}: not a cost") from error
                self._place += len(line)
        return self._counted

    def _add(self, amount: float, ceiling: float | None) -> None:
        if self._price == 0:
            return
        if self._ledger is None:
            self._require(self._counted, ceiling)
            self._counted += amount
            return
        self._ledger.parent.mkdir(parents=True, exist_ok=True)
        with self._ledger.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # other processes count with the same file
            self._require(self._total(), ceiling)
            if file.tell() > self._place:  # the rest of a line that a kill cut off
                file.truncate(self._place)
            file.write(json.dumps({"cost": amount}).encode() + b"\n")

    def _require(self, spent: float, ceiling: float | None) -> None:
        # Prices are decimals: 0.1 + 0.2 must not pass a ceiling of 0.3.
        if ceiling is not None and spent + self._price > ceiling * (1 + 1e-9):
            raise CeilingError(
                f"{spent:.4f} of {ceiling:.4f} are spent, the next call costs {self._price:.4f}; "
                "raise cost_ceiling and run the same command again"
            )


class Reservation:
    """The price of one call, counted until it is given back."""

    def __init__(self, spending: Spending) -> None:
        """Made by `Spending.reserve`."""
        self._spending = spending
        self._held = True

    def release(self) -> None:
        """The service did no work for this call."""
        if self._held:
            self._held = False
            self._spending._give_back()


def spent_in(ledger: Path) -> float | None:
    """What a ledger counts; None where there is none.

    Raises:
        ValueError: If it is damaged.
    """
    return Spending(price=0.0, ledger=ledger).total() if ledger.is_file() else None
