"""SIGKILL at random moments of every stage, until a run is finished all the same."""

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from idbench import evaluate
from idbench.faults.checks import Recorded, complete, nothing_lost, nothing_made_twice, recorded
from idbench.faults.driver import Driver, Ended, counting_steps, killed_at_step
from idbench.faults.session import FaultError, Session, checked

STAGES = ("generation", "extraction", "scoring", "table")
_STAGES_OF = {"generate": STAGES[:1], "score": STAGES[1:3], "table": STAGES[3:]}
MOST_KILLS_PER_STAGE = 8  # of one run; then it is left alone


def kill_runs(
    session: Session,
    scene: Path,
    chance: random.Random,
    *,
    kills: int,
    more: Callable[[], bool],
    counts: Counter[str],
) -> None:
    """Makes runs anew, each killed again and again, until `kills` processes died.

    An equal share of them dies in each of `STAGES`; a process that is killed before its stage has
    begun counts for the stage that it would have gone on with.

    Half of the kills come at a random time, half at a random one of the steps that the process
    takes on its files. After each one it is checked that every recorded image is there and whole,
    that nothing recorded is gone, and later that nothing recorded was made again; at the end of a
    run its rows are counted and its tables compared.

    Args:
        session: The workload.
        scene: An empty folder.
        chance: Where all randomness comes from.
        kills: How many processes to kill, those in `counts` included.
        more: Whether there is time for another run.
        counts: Kills by stage and finished `runs`; added to.

    Raises:
        FaultError: At the first thing that must not happen.
    """
    limits = _measured(session, scene)
    # Transactions of eight samples: more of them to be killed between.
    chunk, evaluate.SCORE_CHUNK = evaluate.SCORE_CHUNK, 8
    try:
        while any(counts[stage] < kills / len(STAGES) for stage in STAGES):
            if counts["runs"] and not more():
                break
            shutil.rmtree(scene, ignore_errors=True)
            scene.mkdir(parents=True)
            _killed_run(session, scene, chance, limits, counts, -(-kills // len(STAGES)))
            complete(session, scene / "runs")
            session.compare(scene / "runs", scene)
            counts["runs"] += 1
    finally:
        evaluate.SCORE_CHUNK = chunk
    shutil.rmtree(scene, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Limits:
    """Seconds and steps of each verb when it is left alone, and how many features there are."""

    verbs: dict[str, tuple[float, int]]
    features: int


def _measured(session: Session, scene: Path) -> _Limits:
    limits: dict[str, tuple[float, int]] = {}
    shutil.rmtree(scene, ignore_errors=True)
    for verb, argv in _verbs(session, scene):
        scene.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        Driver(argv, scene / "log", counting_steps(scene / "steps")).wait()
        limits[verb] = (time.monotonic() - began, (scene / "steps").stat().st_size)
    return _Limits(limits, recorded(scene / "runs").features)


def _verbs(session: Session, scene: Path) -> list[tuple[str, list[str]]]:
    runs = scene / "runs"
    # One of the tables; all of them are compared at the end.
    return [
        ("generate", session.generate(runs)),
        ("score", session.score(runs)),
        ("table", session.tables(runs, scene / "killed")[2]),
    ]


def _killed_run(
    session: Session,
    scene: Path,
    chance: random.Random,
    limits: _Limits,
    counts: Counter[str],
    most: int,
) -> None:
    known = Recorded()
    for verb, argv in _verbs(session, scene):
        here = Counter[str]()
        while True:
            asked = len(session.made())
            stage = _stage(verb, known, limits)
            before = known
            if here[stage] >= MOST_KILLS_PER_STAGE or all(
                counts[each] >= most for each in _STAGES_OF[verb]
            ):
                ended = checked(Driver(argv, scene / "log").wait())
            else:
                ended = _ended_early(argv, scene, chance, limits.verbs[verb])
            known = recorded(scene / "runs")
            nothing_lost(before, known)
            nothing_made_twice(session, asked, before)
            if verb == "table":
                _whole_or_absent(scene / "killed", session.expected)
            if not ended.killed:
                if ended.code != 0:
                    raise FaultError(f"{verb} ended with {ended.code}: {ended.err[-300:]}")
                break
            stage = _stage(verb, known, limits)
            here[stage] += 1
            counts[stage] += 1


def _ended_early(
    argv: list[str], scene: Path, chance: random.Random, limits: tuple[float, int]
) -> Ended:
    seconds, steps = limits
    if chance.random() < 0.5:
        step = chance.randint(1, max(1, steps))
        return checked(Driver(argv, scene / "log", killed_at_step(step)).wait())
    driver = Driver(argv, scene / "log")
    time.sleep(chance.uniform(0.0, 0.8 * seconds))  # a fork begins sooner than a fresh process
    driver.kill()
    return checked(driver.wait())


def _stage(verb: str, known: Recorded, limits: _Limits) -> str:
    stages = _STAGES_OF[verb]
    return stages[0] if known.features < limits.features else stages[-1]


def _whole_or_absent(folder: Path, expected: dict[str, bytes]) -> None:
    for path in folder.glob("table.*"):
        if path.read_bytes() != expected[path.name]:
            raise FaultError(f"{path} is neither whole nor absent after a kill")
