"""What is left to do: tasks from a plan, and those that come back from workers that died.

The bookkeeping that all executors share. A task whose worker died is split; a part that cannot be
split and kills its worker twice is poison.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

DEATHS_OF_POISON = 2
# A worker that dies in the moment between two tasks is charged to neither, but not for ever: a
# task that cannot even be received would come back again and again.
RETURNS_OF_POISON = 10


class Parts(Protocol[T, R_co]):
    """How tasks are taken apart, and what stands for one that cannot be done."""

    def split(self, task: T, /) -> Sequence[T]:
        """The smallest tasks that this one consists of; itself if it is one."""
        ...

    def poison(self, task: T, detail: str, /) -> R_co:
        """The result of a smallest task whose worker died or hung twice."""
        ...


def never() -> bool:
    """The wish of somebody who does not want to stop."""
    return False


@dataclass(slots=True)
class Entry(Generic[T]):
    """A task, how many workers it has killed, and how often it came back from others' deaths."""

    task: T
    deaths: int = 0
    returns: int = 0


class WorkQueue(Generic[T, R]):
    """Hands tasks out one by one and takes back those that were not done.

    Only what came back is held; the rest stays in the iterable until it is asked for.
    """

    def __init__(
        self, tasks: Iterable[T], parts: Parts[T, R], stop: Callable[[], bool] = never
    ) -> None:
        """`stop` is asked before a task is handed out; when it says so, none is any more."""
        self._tasks, self._parts, self._stop = iter(tasks), parts, stop
        self._again: deque[Entry[T]] = deque()

    def waiting(self) -> bool:
        """Whether there is a task to hand out; one is fetched from the plan if need be."""
        if self._stop():
            return False
        if not self._again:
            for task in self._tasks:
                self._again.append(Entry(task))
                break
        return bool(self._again)

    def take(self) -> Entry[T]:
        """The next task; ask `waiting` first."""
        return self._again.popleft()

    def give_back(self, entry: Entry[T]) -> Iterator[R]:
        """Takes back a task that its worker, now gone, had not begun."""
        entry.returns += 1
        if entry.returns < RETURNS_OF_POISON:
            self._again.appendleft(entry)
        else:
            yield from self.charge(entry, "its worker died before it could begin")

    def charge(self, entry: Entry[T], fault: str) -> Iterator[R]:
        """Takes back a task whose worker died of it: it is split, tried again, or given up."""
        entry.deaths += 1
        smaller = self._parts.split(entry.task)
        if len(smaller) > 1:
            self._again.extend(Entry(part) for part in smaller)
        elif entry.deaths < DEATHS_OF_POISON:
            self._again.append(entry)
        else:
            yield self._parts.poison(entry.task, f"{fault}, {entry.deaths} times")
