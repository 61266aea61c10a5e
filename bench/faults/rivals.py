"""Several drivers on one run: one works, the others are refused, and nothing is mixed up."""

import shutil
import time
from pathlib import Path

from idbench.faults.checks import complete, nothing_made_twice, recorded
from idbench.faults.driver import Driver
from idbench.faults.session import FaultError, Session, checked, said

REFUSED = "is being written by another process"


def rival_drivers(session: Session, scene: Path, *, times: int) -> str:
    """Starts a second driver beside one at work, then three at once on a run that is not there.

    Raises:
        FaultError: If two worked at the same time, or a table is another in the end.
    """
    refusals = 0
    for number in range(times):
        workspace = scene / "runs"
        shutil.rmtree(scene, ignore_errors=True)
        scene.mkdir(parents=True)
        asked = len(session.made())
        session.slow(True)
        try:
            if number == 0:
                first = Driver(session.generate(workspace), scene / "first")
                _until_it_writes(workspace)
                session.refused(session.generate(workspace), scene, REFUSED)
                session.refused(session.score(workspace), scene, REFUSED)
                session.run(["table", str(workspace)], scene)  # reading is always allowed
                first.kill()  # its lock goes with it
                first.wait()
                refusals += 2
            drivers = [
                Driver(session.generate(workspace), scene / f"rival{place}") for place in range(3)
            ]
            ends = [checked(driver.wait()) for driver in drivers]
        finally:
            session.slow(False)
        for ended in ends:
            if ended.code == 2 and REFUSED in ended.err:
                refusals += 1
            elif ended.code != 0:
                raise FaultError(f"a rival ended with {ended.code}: {said(ended)}")
        if all(ended.code for ended in ends):
            raise FaultError("three drivers refused one another")
        if number:
            nothing_made_twice(session, asked, recorded(scene / "nothing"))
        session.must(session.generate(workspace), scene)
        session.must(session.score(workspace), scene)
        complete(session, workspace)
        session.compare(workspace, scene)
    return f"{refusals} of {2 + 3 * times} rivals refused"


def _until_it_writes(workspace: Path) -> None:
    end = time.monotonic() + 60
    while not any(workspace.rglob("*.png")):
        if time.monotonic() > end:
            raise FaultError("no image was made within a minute")
        time.sleep(0.01)
