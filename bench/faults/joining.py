"""Shards that are killed, and joined by merges that are killed."""

import random
import time
from pathlib import Path

from idbench.faults.checks import complete, nothing_lost, recorded
from idbench.faults.driver import Driver
from idbench.faults.session import FaultError, Session, checked, said

SHARDS = 3


def killed_merges(session: Session, scene: Path, chance: random.Random, *, kills: int) -> str:
    """Makes and scores three shards, each killed once, then merges them with `kills` kills.

    Raises:
        FaultError: If anything is lost, or a table is another in the end.
    """
    workspace = scene / "runs"
    for number in range(1, SHARDS + 1):
        share = workspace / "shards" / f"{number}-of-{SHARDS}"
        argv = session.generate(workspace, "--shard", f"{number}/{SHARDS}")
        driver = Driver(argv, scene / "log")
        time.sleep(chance.uniform(0.0, 0.2))
        driver.kill()
        checked(driver.wait())
        session.must(argv, scene)
        session.must(session.score(share), scene)
    argv = ["merge", str(workspace)]
    died = 0
    for _ in range(kills):
        before = recorded(workspace)
        driver = Driver(argv, scene / "log")
        time.sleep(chance.uniform(0.0, 0.2))
        driver.kill()
        ended = checked(driver.wait())
        died += ended.killed
        if not ended.killed and ended.code != 0:
            raise FaultError(f"merge ended with {ended.code}: {said(ended)}")
        nothing_lost(before, recorded(workspace))
    for _ in range(2):  # the second time there is nothing to do
        session.must(argv, scene)
    complete(session, workspace)
    session.compare(workspace, scene)
    return f"{SHARDS} shards killed, {died} merges killed"
