"""Workers on a Ray cluster: actors that load once, pull work, and are replaced when they die.

Each has two tasks in flight, so that it never waits for the driver. Ray restarts and retries
nothing: whether a task is tried again is decided here, with what the worker last said it began.
"""

import contextlib
import importlib.util
import logging
import math
import os
import secrets
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from idbench.executors import Factory, RayOptions, WorkerDiedError
from idbench.process_pool import starting
from idbench.ray_actors import Host, Marks
from idbench.work_queue import Entry, WorkQueue

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

IN_FLIGHT = 2
LOOK_AGAIN = 0.5  # seconds between looks at the clock and at a wish to stop
SECONDS_FOR_MARK = 10.0
SECONDS_BEFORE_COMPLAINT = 60.0
# A cluster of our own moves no pixels, so the least that Ray accepts is enough.
OBJECT_STORE_BYTES = 80 * 2**20


def connect(options: RayOptions) -> Any:
    """Returns the `ray` module, connected to the cluster; a second call changes nothing.

    Raises:
        ModuleNotFoundError: If ray is not installed.
        ConnectionError: If there is no cluster at the address.
    """
    if importlib.util.find_spec("ray") is None:
        raise ModuleNotFoundError(
            "the executor ray needs the package ray: pip install 'idbench[ray]'"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report over the network
    # It prints the deaths of workers into our output; they are counted and said here.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    in_main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    import ray

    if ray.is_initialized():
        return ray
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if options.address is not None:
        ray.init(address=options.address, **quiet)
    else:
        ray.init(
            include_dashboard=options.dashboard,
            dashboard_host="127.0.0.1",
            _node_ip_address="127.0.0.1",
            object_store_memory=OBJECT_STORE_BYTES,
            **quiet,
        )
    if in_main:
        for number, handler in handlers.items():  # Ray takes SIGTERM for itself
            signal.signal(number, handler)
    return ray


@dataclass(slots=True)
class _Flight(Generic[T]):
    number: int
    entry: Entry[T]
    reply: Any  # ObjectRef


@dataclass(slots=True)
class _Host(Generic[T]):
    name: str
    actor: Any  # ActorHandle
    reply: Any  # ObjectRef of its start, then of its loading
    stage: str = "starting"  # then "loading", then "ready"
    flights: deque[_Flight[T]] = field(default_factory=deque)
    since: float = 0.0  # when it was asked for, began to load, or its oldest task could begin


class RayPool(Generic[T, R]):
    """Keeps actors at work until the queue is empty."""

    def __init__(
        self,
        queue: WorkQueue[T, R],
        factory: Factory[T, R],
        timeout: float | None,
        options: RayOptions,
    ) -> None:
        """Connects to the cluster, or starts one.

        Raises:
            ModuleNotFoundError: If ray is not installed.
            ConnectionError: If there is no cluster at the address.
        """
        self._queue, self._timeout, self._options = queue, timeout, options
        self._ray = ray = connect(options)
        self._own = options.address is None
        # In a cluster of our own --workers alone says how many there are.
        cpus = 0.0 if self._own else options.cpus
        self._actors = ray.remote(
            num_cpus=cpus,
            num_gpus=options.gpus,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )(Host)
        self._factory = ray.put(factory)
        self._marks = self._new_marks()
        self._hosts: dict[str, _Host[T]] = {}
        self._numbers = iter(range(1 << 62))
        self._failed_starts = 0
        self._error: Exception | None = None
        self._token = _token(options.shared) if options.shared else None
        self._begun = time.monotonic()
        self._complained = False  # or there is nothing to complain about any more

    def results(self, workers: int) -> Iterator[R]:
        """The results, as they come; `workers` 0 is as many as the cluster has room for.

        Raises:
            WorkerDiedError: If as many actors as there are workers, and three at least, die one
                after another before any is ready.
            Exception: What a worker raises.
        """
        workers = workers or self._room()
        try:
            while True:
                self._occupy(workers)
                idle = not any(host.flights for host in self._hosts.values())
                if idle and not self._queue.waiting():
                    return
                found = list(self._collect(workers))
                self._occupy(workers)
                yield from found
                if self._error is not None:
                    raise self._error
        finally:
            self._stop()

    def _new_marks(self) -> Any:
        return self._ray.remote(num_cpus=0, max_restarts=0)(Marks).remote()

    def _room(self) -> int:
        total: dict[str, float] = self._ray.cluster_resources()
        if self._options.gpus:
            return max(1, math.floor(total.get("GPU", 0.0) / self._options.gpus))
        return max(1, math.floor(total.get("CPU", 1.0) / (self._options.cpus or 1.0)))

    def _occupy(self, workers: int) -> None:
        """Asks for the actors that are missing and fills those that are ready."""
        while len(self._hosts) < workers and self._queue.waiting():
            self._start()
        # One each first, so that the last tasks are spread and not queued behind one another.
        for depth in range(1, IN_FLIGHT + 1):
            for host in self._hosts.values():
                if host.stage == "ready" and len(host.flights) < depth and self._queue.waiting():
                    self._hand(host, self._queue.take())

    def _start(self) -> None:
        name = secrets.token_hex(8)
        threads = os.environ.get("OMP_NUM_THREADS")
        actor = self._actors.remote(name, self._marks, str(Path.cwd()), threads)
        self._hosts[name] = _Host(name, actor, actor.place.remote(), since=time.monotonic())

    def _hand(self, host: _Host[T], entry: Entry[T]) -> None:
        if not host.flights:
            host.since = time.monotonic()
        number = next(self._numbers)
        host.flights.append(_Flight(number, entry, host.actor.run.remote(number, entry.task)))

    def _collect(self, workers: int) -> Iterator[R]:
        """Waits a little for results, deaths or hangs, and deals with them."""
        replies = {
            host.flights[0].reply if host.flights else host.reply: host
            for host in self._hosts.values()
            if host.flights or host.reply is not None
        }
        pending = list(replies)
        done, _ = self._ray.wait(pending, num_returns=1, timeout=LOOK_AGAIN)
        if done and len(pending) > 1:
            done, _ = self._ray.wait(pending, num_returns=len(pending), timeout=0)
        for reply in done:
            host = replies[reply]
            try:
                yield from self._take(host, self._ray.get(reply))
            except self._ray.exceptions.RayError as error:
                fault = f"its worker died ({type(error).__name__})"
                yield from self._lost(host, fault, workers)
        if self._timeout is not None:
            for host in list(self._hosts.values()):
                busy = host.flights or host.stage == "loading"
                if busy and time.monotonic() - host.since > self._timeout:
                    yield from self._lost(host, f"its worker hung for {self._timeout:g} s", workers)
        self._complain()

    def _take(self, host: _Host[T], answer: Any) -> Iterator[R]:
        if host.stage == "starting":
            host.stage, host.since, self._complained = "loading", time.monotonic(), True
            host.reply = host.actor.load.remote(self._factory, self._token)
            return
        kind, value = answer
        if kind == "error":
            self._error = value
            return
        if host.stage == "loading":
            host.stage, host.reply, self._failed_starts = "ready", None, 0
            return
        host.flights.popleft()
        host.since = time.monotonic()
        yield value

    def _lost(self, host: _Host[T], fault: str, workers: int) -> Iterator[R]:
        """Takes an actor out; what it had begun is charged with it, the rest goes back."""
        del self._hosts[host.name]
        self._ray.kill(host.actor)
        if host.stage != "ready":
            self._failed_starts += 1
            if self._failed_starts >= max(3, workers):
                self._error = WorkerDiedError(starting(fault))
            return
        if not host.flights:
            return
        begun = self._last_begun(host)
        for flight in host.flights:
            if flight.number == begun:
                yield from self._queue.charge(flight.entry, fault)
            else:
                yield from self._queue.give_back(flight.entry)

    def _last_begun(self, host: _Host[T]) -> int | None:
        """The task that a dead actor was in; its oldest one if nobody knows any more."""
        try:
            begun = self._ray.get(self._marks.begun.remote(host.name), timeout=SECONDS_FOR_MARK)
        except self._ray.exceptions.RayError:
            self._marks = self._new_marks()
            return host.flights[0].number
        return None if begun is None else int(begun)

    def _complain(self) -> None:
        """Says once that the cluster gives no worker; it may yet, where it grows on demand."""
        waits = time.monotonic() - self._begun > SECONDS_BEFORE_COMPLAINT
        if waits and not self._complained and self._hosts:
            self._complained = True
            log.error(
                "no worker has started for %.0f s; each wants %g GPU and %g CPU, there are %s",
                SECONDS_BEFORE_COMPLAINT,
                self._options.gpus,
                self._options.cpus,
                self._ray.cluster_resources(),
            )

    def _stop(self) -> None:
        for host in self._hosts.values():
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.kill(host.actor)
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(self._marks)
        if self._token is not None:
            self._token.unlink(missing_ok=True)


def _token(folder: Path) -> Path:
    """A file by which a node shows that it sees the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.resolve() / f".idbench-{secrets.token_hex(8)}"
    path.touch()
    return path
