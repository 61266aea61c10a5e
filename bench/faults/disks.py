"""A disk that is full, read-only, or refuses large files, at any stage; later the same tables."""

import random
import resource
from collections.abc import Callable
from pathlib import Path

from idbench.faults.checks import complete, nothing_lost, recorded
from idbench.faults.driver import Driver
from idbench.faults.private_mounts import SmallDisk, with_small_disk
from idbench.faults.session import FaultError, Session, checked, said

SIZE = 24 << 20
REFUSALS = ("cannot write", "cannot open", "cannot copy")


def full_disk(session: Session, scene: Path, chance: random.Random, *, times: int) -> str:
    """Each stage meets a full disk `times` times, with a few pages left, then has room.

    Raises:
        FaultError: If a refusal is not said, or a table is another in the end.
        SkippedError: If nobody may mount a disk here.
    """

    def work(disk: SmallDisk) -> None:
        workspace = disk.folder / "runs"
        for argv in _stages(session, disk.folder):
            refusals = 0
            for number in range(times):
                before = recorded(workspace)
                disk.leave(4096 * (chance.choice((1, 2, 5, 12, 30)) if number else 0))
                refusals += _refused_or_done(session, argv, scene)
                disk.empty()
                nothing_lost(before, recorded(workspace))
            if not refusals:
                raise FaultError(f"{argv[0]} never met the full disk: the case proves nothing")
            session.must(argv, scene)
        complete(session, workspace)
        session.compare(workspace, scene)

    with_small_disk(scene / "disk", SIZE, work)
    return f"{times} times in 3 stages"


def read_only_disk(session: Session, scene: Path) -> str:
    """Each stage meets a disk that cannot be written, where reading goes on, then one that can.

    Raises:
        FaultError: If a refusal is not said, a table cannot be read, or one is another in the end.
        SkippedError: If nobody may mount a disk here.
    """

    def work(disk: SmallDisk) -> None:
        workspace = disk.folder / "runs"
        for argv in _stages(session, disk.folder):
            disk.read_only(True)
            session.refused(argv, scene, *REFUSALS)
            disk.read_only(False)
            session.must(argv, scene)
        disk.read_only(True)
        shown = session.must(["table", str(workspace)], scene)
        if shown.out.encode() != session.expected["table.txt"]:
            raise FaultError("the table of a workspace that cannot be written is another")
        disk.read_only(False)
        session.compare(workspace, scene)

    with_small_disk(scene / "disk", SIZE, work)
    return "3 stages refused; reading goes on"


def small_files(session: Session, scene: Path, chance: random.Random, *, times: int) -> str:
    """Files may not grow beyond a few random limits (RLIMIT_FSIZE), which needs no mount.

    Raises:
        FaultError: If a refusal is not said, or a table is another in the end.
    """
    refusals = 0
    for argv in _stages(session, scene):
        for number in range(times):
            before = recorded(scene / "runs")
            limit = chance.choice((3000, 5000, 9000, 20000)) if number else 1500
            refusals += _refused_or_done(session, argv, scene, _limited(limit))
            nothing_lost(before, recorded(scene / "runs"))
        session.must(argv, scene)
    if not refusals:
        raise FaultError("no file met its limit: the case proves nothing")
    session.compare(scene / "runs", scene)
    return f"{refusals} refusals in 3 stages"


def _limited(limit: int) -> Callable[[], None]:
    def limit_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return limit_files


def _stages(session: Session, folder: Path) -> list[list[str]]:
    runs = folder / "runs"
    return [session.generate(runs), session.score(runs), session.tables(runs, folder / "out")[2]]


def _refused_or_done(
    session: Session, argv: list[str], scene: Path, before: Callable[[], None] | None = None
) -> bool:
    ended = checked(Driver(argv, scene / "log", before).wait())
    if ended.code == 0:
        return False
    if ended.code != 2 or not any(word in ended.err for word in REFUSALS):
        raise FaultError(f"{argv[0]} ended with {ended.code}, not a refusal: {said(ended)}")
    return True
