"""Databases, run files and images that lost their end: said, and made good by what is advised."""

import random
import shutil
import sqlite3
from pathlib import Path

from idbench.faults.checks import complete
from idbench.faults.session import FaultError, Session

DAMAGED = "damaged"


def truncated_files(session: Session, scene: Path, chance: random.Random, *, times: int) -> str:
    """Cuts `run.sqlite`, `features.sqlite` or `run.json` of a finished workspace anywhere.

    A damaged run is refused by every verb; moved away, as the message says, it is made again. The
    feature store is a cache and makes itself anew.

    Raises:
        FaultError: If damage is not said, or a table is another in the end.
    """
    whole = session.folder / "whole" / "runs"
    for number in range(times):
        workspace = scene / "runs"
        shutil.rmtree(workspace, ignore_errors=True)
        shutil.copytree(whole, workspace)
        name = ("run.sqlite", "features.sqlite", "run.json")[number % 3]
        path = chance.choice(sorted(workspace.rglob(name)))
        size = path.stat().st_size
        # Whole pages too: a database that ends between two pages looks like a smaller one.
        ends = (0, 1, 100, 4096, 8192, size, chance.randrange(1, size))
        # Without its last byte, a line break, run.json is as good as before.
        path.write_bytes(path.read_bytes()[: min(size - 2, chance.choice(ends))])
        if name == "features.sqlite":
            forget_scores(workspace)
        else:
            for argv in (["table", str(workspace)], session.score(workspace)):
                session.refused(argv, scene, DAMAGED)
            session.refused(session.generate(workspace), scene, DAMAGED)
            shutil.move(path.parent, scene / f"moved-{number}")  # as the message says
        session.must(session.generate(workspace), scene)
        session.must(session.score(workspace), scene)
        complete(session, workspace)
        session.compare(workspace, scene)
    return f"{times} files cut"


def overwritten_pages(session: Session, scene: Path, chance: random.Random, *, times: int) -> str:
    """Pages full of rubbish inside a database: no verb ends with a traceback.

    A database has no check sums, so that a changed number inside a page cannot be told; only what
    makes the database unreadable is said.

    Raises:
        FaultError: If a verb ended with a traceback, or neither refused nor did its work.
    """
    whole = session.folder / "whole" / "runs"
    said = 0
    for number in range(times):
        workspace = scene / "runs"
        shutil.rmtree(workspace, ignore_errors=True)
        shutil.copytree(whole, workspace)
        path = chance.choice(sorted(workspace.rglob("*.sqlite")))
        pages = path.stat().st_size // 4096
        with path.open("r+b") as stream:
            stream.seek(4096 * (number % pages))
            stream.write(chance.randbytes(4096))
        if path.name == "features.sqlite":
            forget_scores(workspace)
        verbs = (session.generate(workspace), session.score(workspace), ["table", str(workspace)])
        for argv in verbs:
            ended = session.run(argv, scene)
            if ended.code == 2 and DAMAGED in ended.err:
                said += 1
            elif ended.code not in (0, 1):
                raise FaultError(f"{argv[0]} ended with {ended.code}: {ended.err[-300:]}")
    if not said:
        raise FaultError("no damage was ever met: the case proves nothing")
    return f"{times} pages; {said} refusals"


def truncated_images(session: Session, scene: Path, chance: random.Random, *, share: float) -> str:
    """Cuts, empties or removes images after they were recorded.

    Scoring records a miss for each; with `--retry-failed` they are made and scored again.

    Raises:
        FaultError: If a cut image counts as an image, or a table is another in the end.
    """
    workspace = scene / "runs"
    session.must(session.generate(workspace), scene)
    # Equal images are read once and stand for one another, so only those of the painter.
    images = sorted(path for path in workspace.rglob("*.png") if "Painter-" in str(path))
    chosen = chance.sample(images, max(3, round(share * len(images))))
    for number, path in enumerate(chosen):
        data = path.read_bytes()
        cut = (0, 1, len(data) // 2, len(data) - 1)[number % 4]
        path.write_bytes(data[:cut])
    session.must(session.score(workspace), scene)
    shown = session.must(["table", str(workspace)], scene).out
    if "changed_image" not in shown:
        raise FaultError("cut images are not said below the table")
    session.must(session.generate(workspace, "--retry-failed"), scene)
    session.must(session.score(workspace, "--retry-failed"), scene)
    complete(session, workspace)
    session.compare(workspace, scene)
    return f"{len(chosen)} of {len(images)} images cut"


def forget_scores(workspace: Path) -> None:
    """Takes the scores out of the runs, so that features are read again."""
    for path in workspace.rglob("run.sqlite"):
        database = sqlite3.connect(path)
        with database:
            database.execute("DELETE FROM scores")
        database.close()
