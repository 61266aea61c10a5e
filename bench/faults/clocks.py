"""A clock that jumps, and files whose times lie in the past and the future."""

import datetime
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from idbench.faults.checks import complete, nothing_lost, recorded
from idbench.faults.driver import Driver
from idbench.faults.session import FaultError, Session, checked, said

YEAR = 365 * 86400.0


def jumping_clock(session: Session, scene: Path, chance: random.Random, *, kills: int) -> str:
    """Every look at the wall clock is up to thirty years off, either way, between kills too.

    The clocks that cannot run backwards, `monotonic` and `perf_counter`, jump forward by up to a
    day, as after a suspended machine. The times of all files are set to 1970 or 2100 in between.

    Raises:
        FaultError: If anything is lost, or a table is another in the end.
    """
    workspace = scene / "runs"
    for argv in (session.generate(workspace), session.score(workspace)):
        for number in range(kills + 1):
            before = recorded(workspace)
            driver = Driver(argv, scene / "log", _jumping(chance.randrange(2**32)))
            if number < kills:
                time.sleep(chance.uniform(0.0, 0.3))
                driver.kill()
            ended = checked(driver.wait())
            if not ended.killed and ended.code != 0:
                raise FaultError(f"{argv[0]} ended with {ended.code}: {said(ended)}")
            nothing_lost(before, recorded(workspace))
            for path in workspace.rglob("*"):
                if path.is_file():
                    moment = chance.choice((0, 4102444800))
                    os.utime(path, (moment, moment))
    complete(session, workspace)
    session.compare(workspace, scene)
    return f"30 years either way, {2 * kills} kills"


def _jumping(seed: int) -> Callable[[], None]:
    def plant() -> None:
        chance = random.Random(seed)
        real, steady = time.time, time.monotonic
        ahead = [0.0]

        def wall() -> float:
            return max(0.0, real() + chance.uniform(-30 * YEAR, 30 * YEAR))

        def forward() -> float:
            ahead[0] += chance.choice((0.0, 0.0, 0.0, 3600.0, 86400.0))
            return steady() + ahead[0]

        class Jumping(datetime.datetime):
            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> Any:
                return cls.fromtimestamp(wall(), tz)

        time.time = wall
        time.time_ns = lambda: round(wall() * 1e9)
        time.monotonic = time.perf_counter = forward
        datetime.datetime = Jumping  # type: ignore[misc]

    return plant
