"""What must hold of a workspace at any moment, whatever was killed in it."""

import hashlib
import shutil
import sqlite3
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from idbench.faults.session import FaultError, Session
from idbench.store import SHARDS


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the runs of a workspace know: images, and scores with their values, by place."""

    planned: int = 0
    images: dict[str, str] = field(default_factory=dict)
    scores: dict[str, str] = field(default_factory=dict)
    features: int = 0


def recorded(workspace: Path, *, shards: bool = True) -> Recorded:
    """Reads copies of the databases, so that recovery is left to the harness.

    `shards` says whether those in the workspace count.

    Raises:
        FaultError: If a recorded image is absent or another, or a file of an image is half of one.
    """
    planned, images, scores = 0, {}, {}
    for path in sorted(workspace.rglob("run.sqlite")):
        run = path.parent
        if not shards and SHARDS in path.relative_to(workspace).parts:
            continue
        for place, sample, status, relative, sha256 in _rows(
            path, "SELECT case_id, sample, status, path, sha256 FROM samples"
        ):
            planned += 1
            if status != "ok":
                continue
            file = run / str(relative)
            if not file.is_file():
                raise FaultError(f"{file} is recorded and does not exist")
            if hashlib.sha256(file.read_bytes()).hexdigest() != sha256:
                raise FaultError(f"{file} is not the image that was recorded")
            images[f"{run.relative_to(workspace)}/{place}/{sample}"] = str(sha256)
        for case_id, sample, name, value, reason in _rows(
            path, "SELECT case_id, sample, name, value, reason FROM scores"
        ):
            scores[f"{run.relative_to(workspace)}/{case_id}/{sample}/{name}"] = (
                f"{value!r} {reason}"
            )
    for file in workspace.rglob("*.png"):
        try:
            with Image.open(file) as opened:
                opened.load()
        except (OSError, SyntaxError) as error:
            raise FaultError(f"{file} is half an image: {error}") from error
    found = [_rows(path, "SELECT input FROM features") for path in _features(workspace)]
    return Recorded(planned, images, scores, sum(map(len, found)))


def nothing_lost(before: Recorded, after: Recorded) -> None:
    """Compares two moments of one workspace.

    Raises:
        FaultError: If what was recorded at the first is gone or another at the second.
    """
    for what in ("images", "scores"):
        old, new = getattr(before, what), getattr(after, what)
        for place, value in old.items():
            if new.get(place) != value:
                raise FaultError(f"{what} {place} was {value}, is {new.get(place)}")
    if before.planned > after.planned:
        raise FaultError(f"{before.planned} samples were planned, {after.planned} are left")


def nothing_made_twice(session: Session, asked_before: int, known: Recorded) -> None:
    """Compares what the method was asked for since with what was recorded then.

    Raises:
        FaultError: If an image that was recorded was made again, or one was made twice.
    """
    again = session.made()[asked_before:]
    paid = {"/".join(place.split("/")[-2:]) for place in known.images if "/Painter-" in place}
    twice = [place for place, count in Counter(again).items() if count > 1 or place in paid]
    if twice:
        raise FaultError(f"made though it was recorded, or twice: {', '.join(sorted(twice)[:3])}")


def complete(session: Session, workspace: Path) -> None:
    """Counts the rows of a finished workspace.

    Raises:
        FaultError: If there are not exactly as many as were planned.
    """
    found = recorded(workspace, shards=False)
    runs, columns = 2, 3
    expected = runs * session.images
    counts = (found.planned, len(found.images), len(found.scores))
    if counts != (expected, expected, expected * columns):
        raise FaultError(
            f"{counts} samples, images and scores; planned were {expected} x (1, 1, {columns})"
        )


def _features(workspace: Path) -> list[Path]:
    return sorted(workspace.rglob("features.sqlite"))


def _rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        for suffix in ("", "-journal"):
            if Path(f"{path}{suffix}").exists():
                shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
        database = sqlite3.connect(copy)
        try:
            return database.execute(query).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []  # killed before the first transaction
            raise
        finally:
            database.close()
