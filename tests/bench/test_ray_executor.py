"""The Ray executor on a real local cluster: every task once, whoever dies, hangs or raises."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from idbench.executors import RayOptions, WorkerDiedError, run_batches

pytest.importorskip("ray", reason="needs the ray extra")
pytestmark = pytest.mark.usefixtures("cluster")

Batch = tuple[int, ...]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One cluster for all tests of this module; its workers find this module."""
    import sys

    import ray

    from idbench.ray_executor import connect

    sys.path.insert(0, str(Path(__file__).parents[2]))
    connect(RayOptions())
    yield
    ray.shutdown()
    sys.path.remove(str(Path(__file__).parents[2]))


@dataclass(frozen=True)
class Squares:
    """Squares numbers; a number may kill, hang or raise, always or only the first time."""

    folder: Path
    kills: Batch = ()
    hangs: Batch = ()
    raises: Batch = ()
    once: bool = False

    def __call__(self, task: Batch) -> dict[int, int | str]:
        for number in task:
            with (self.folder / "begun.txt").open("a") as log:
                log.write(f"{number}\n")
            if number in self.raises:
                raise ValueError(f"no square of {number}")
            if self._strikes(number, self.kills):
                os.kill(os.getpid(), signal.SIGKILL)
            if self._strikes(number, self.hangs):
                time.sleep(60)
        return {number: number * number for number in task}

    def _strikes(self, number: int, numbers: Batch) -> bool:
        if number not in numbers:
            return False
        mark = self.folder / f"mark-{number}"
        fresh = not mark.exists()
        mark.touch()
        return fresh or not self.once


class Numbers:
    def split(self, task: Batch) -> Sequence[Batch]:
        return [(number,) for number in task]

    def poison(self, task: Batch, detail: str) -> dict[int, int | str]:
        return {task[0]: detail}


def run(
    factory: Callable[[], Any],
    count: int,
    *,
    size: int = 3,
    workers: int = 2,
    timeout: float | None = None,
    options: RayOptions | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[int, int | str]:
    batches = [tuple(range(count))[start : start + size] for start in range(0, count, size)]
    merged: dict[int, int | str] = {}
    for result in run_batches(
        batches, factory, workers=workers, parts=Numbers(), timeout=timeout,
        ray=options or RayOptions(), stop=stop,
    ):  # fmt: skip
        assert not merged.keys() & result.keys(), "a task was counted twice"
        merged |= result
    return merged


def begun(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "begun.txt").read_text().split()]


def test_every_task_is_done_once(tmp_path: Path) -> None:
    assert run(partial(Squares, tmp_path), 20) == {n: n * n for n in range(20)}
    assert sorted(begun(tmp_path)) == list(range(20))


def test_a_death_is_charged_to_the_one_that_kills(tmp_path: Path) -> None:
    """One worker with two tasks in flight: 4 kills while 6, 7 and 8 wait behind it."""
    found = run(partial(Squares, tmp_path, kills=(4,)), 12, workers=1)
    assert {n: v for n, v in found.items() if n != 4} == {n: n * n for n in range(12) if n != 4}
    assert str(found[4]).startswith("its worker died")
    assert str(found[4]).endswith("2 times")
    # In the batch, and alone twice. The batch behind it never began before its turn.
    times = begun(tmp_path)
    assert times.count(4) == 3
    assert all(times.count(n) == 1 for n in range(6, 12))


def test_a_worker_that_dies_once_costs_nothing(tmp_path: Path) -> None:
    found = run(partial(Squares, tmp_path, kills=(1, 8), once=True), 12)
    assert found == {n: n * n for n in range(12)}


def test_a_hang_is_ended_and_charged(tmp_path: Path) -> None:
    found = run(partial(Squares, tmp_path, hangs=(2,)), 6, timeout=3)
    assert found[2] == "its worker hung for 3 s, 2 times"
    assert sorted(found) == list(range(6))


def test_an_error_of_the_worker_reaches_the_driver(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no square of 3"):
        run(partial(Squares, tmp_path, raises=(3,)), 6)


def dies() -> Squares:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_workers_that_cannot_start_end_the_run() -> None:
    with pytest.raises(WorkerDiedError, match="while it was starting"):
        run(dies, 3, workers=1)


def test_a_wish_to_stop_finishes_what_has_begun(tmp_path: Path) -> None:
    seen: list[bool] = []

    def stop() -> bool:
        seen.append((tmp_path / "begun.txt").exists())
        return seen[-1]

    found = run(partial(Squares, tmp_path), 300, size=1, workers=1, stop=stop)
    assert 0 < len(found) < 300
    assert sorted(found) == sorted(begun(tmp_path))


def test_a_node_that_does_not_see_the_folder_is_named(tmp_path: Path) -> None:
    import ray

    from idbench.ray_actors import Host

    host = ray.remote(num_cpus=0)(Host).remote("w", None, str(tmp_path), None)
    kind, error = ray.get(host.load.remote(dies, tmp_path / "absent" / "token"))
    assert kind == "error"
    assert "does not see" in str(error)
    ray.kill(host)
    # The folder of this machine is seen, and the mark in it goes away.
    assert run(partial(Squares, tmp_path), 2, options=RayOptions(shared=tmp_path / "runs"))
    assert list((tmp_path / "runs").iterdir()) == []


def test_the_dashboard_is_off_and_nothing_is_reported() -> None:
    import ray

    assert not ray.worker.global_worker.node.address_info.get("webui_url")
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_cluster_without_room_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr("idbench.ray_executor.SECONDS_BEFORE_COMPLAINT", 0.2)
    end = time.monotonic() + 4

    def stop() -> bool:
        return time.monotonic() > end

    options = RayOptions(gpus=64)
    assert run(partial(Squares, tmp_path), 3, options=options, stop=stop) == {}
    (record,) = [r for r in caplog.records if r.name == "idbench.ray_executor"]
    assert "each wants 64 GPU and 1 CPU" in record.getMessage()
