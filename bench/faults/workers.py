"""Worker processes that are killed, hang, run out of memory or give rubbish."""

import os
import random
import shutil
import signal
import time
from pathlib import Path

from idbench.faults.checks import complete, nothing_lost, recorded
from idbench.faults.damage import forget_scores
from idbench.faults.driver import Driver
from idbench.faults.session import FaultError, Session, SkippedError

PATIENCE = 20.0  # seconds; a worker needs some to start on a busy machine
GENERATION = ("kill", "hang", "memory", "text", "nan", "nothing", "count")


def failing_workers(session: Session, scene: Path, chance: random.Random) -> str:
    """Each fault happens once, in two workers that generate and two that extract.

    What was killed or hung is made again by itself; rubbish is recorded as a failure and made
    again with `--retry-failed`.

    Raises:
        FaultError: If a fault did not happen, or a table is another in the end.
    """
    workspace = scene / "runs"
    two = ("--workers", "2", "--timeout", str(PATIENCE))
    chosen = session.aliases(chance, len(GENERATION))
    session.plan_faults(
        {alias: {"do": do, "times": 1} for alias, do in zip(chosen, GENERATION, strict=True)}
    )
    try:
        session.run(session.generate(workspace, *two), scene)
        unmet = set(chosen) - set(session.committed())
        if unmet:
            raise FaultError(f"these cases were never asked for: {', '.join(sorted(unmet))}")
        session.must(session.generate(workspace, *two, "--retry-failed"), scene)
        for do in ("kill", "hang"):
            session.plan_faults({"extract": {"do": do, "times": 1}})
            forget_scores(workspace)
            for path in workspace.rglob("features.sqlite"):
                path.unlink()
            session.must(session.score(workspace, *two), scene)
            if not session.committed():
                raise FaultError("no worker extracted anything: the case proves nothing")
    finally:
        session.plan_faults({})
    complete(session, workspace)
    session.compare(workspace, scene)
    return "killed, hung, out of memory, rubbish"


def orphaned_workers(session: Session, scene: Path, chance: random.Random, *, times: int) -> str:
    """Kills drivers with two workers: the workers end too, and leave the next driver alone.

    Raises:
        FaultError: If a worker outlives its driver by seconds, or a table is another in the end.
        SkippedError: If this system does not list the children of a process.
    """
    if not Path("/proc/self/task").is_dir():
        raise SkippedError("the children of a process are listed on Linux only")
    workspace = scene / "runs"
    session.slow(True)
    try:
        for _ in range(times):
            shutil.rmtree(workspace, ignore_errors=True)  # so that there is work for both
            driver = Driver(session.generate(workspace, "--workers", "2"), scene / "log")
            workers = _children(driver.pid, 2)
            time.sleep(chance.uniform(0.0, 3.0))
            before = recorded(workspace)
            driver.kill()
            driver.wait()
            _gone(workers)
            nothing_lost(before, recorded(workspace))
    finally:
        session.slow(False)
    session.must(session.generate(workspace), scene)
    session.must(session.score(workspace), scene)
    complete(session, workspace)
    session.compare(workspace, scene)
    return f"{times} drivers killed, no worker outlived one"


def _children(pid: int, count: int) -> list[int]:
    """The first worker processes of a driver, as soon as there are `count`."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError as error:
            raise FaultError(f"the driver ended by itself: {error}") from error
        workers = [int(child) for child in found if _is_worker(int(child))]
        if len(workers) >= count:
            return workers
        time.sleep(0.01)
    raise FaultError(f"driver {pid} started no {count} workers within a minute")


def _is_worker(pid: int) -> bool:
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _gone(pids: list[int]) -> None:
    end = time.monotonic() + 5
    alive = pids
    while alive and time.monotonic() < end:
        alive = [pid for pid in alive if _is_worker(pid)]
        time.sleep(0.01)
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
    if alive:
        raise FaultError(f"{len(alive)} workers outlived their driver by five seconds")
