"""Times of the stages of a measurement, by the clock and of this process's CPU."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Spent:
    """Seconds by the clock, and of this process's CPU, which other work does not lengthen."""

    wall: float = 0.0
    cpu: float = 0.0

    def add(self, other: "Spent") -> None:
        """Adds the seconds of another."""
        self.wall += other.wall
        self.cpu += other.cpu

    @classmethod
    def total(cls, parts: "Iterator[Spent]") -> "Spent":
        """The sum of several."""
        whole = cls()
        for part in parts:
            whole.add(part)
        return whole


@contextmanager
def timed() -> Iterator[Spent]:
    """The time of the block, filled in when it ends."""
    spent = Spent()
    wall, cpu = time.perf_counter(), time.process_time()
    yield spent
    spent.add(Spent(time.perf_counter() - wall, time.process_time() - cpu))


@dataclass(slots=True)
class Times:
    """Time by stage; `networks` is the part of a stage spent inside its networks."""

    stages: dict[str, Spent] = field(default_factory=lambda: defaultdict(Spent))
    networks: dict[str, Spent] = field(default_factory=lambda: defaultdict(Spent))
    faces: list[int] = field(default_factory=list)

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Adds the time of the block to a stage."""
        from idbench.metrics.extractors.stopwatch import stopwatch

        with timed() as spent, stopwatch() as watch:
            yield
        self.stages[stage].add(spent)
        self.networks[stage].add(Spent(watch.seconds, watch.cpu_seconds))

    def clear(self) -> None:
        """Forgets what was measured."""
        self.stages.clear()
        self.networks.clear()
        self.faces.clear()
