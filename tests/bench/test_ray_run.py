"""Runs on a real local Ray cluster: the rows of `local`, wherever the images are written."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from idbench.executors import RayOptions
from idbench.generate import GenerateOptions, generate
from idbench.method_spec import MethodSpec
from idbench.perf_ray import results_of
from idbench.prompts.suites import Suite
from idbench.records import Sample
from idbench.store import RunStore

pytest.importorskip("ray", reason="needs the ray extra")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One cluster for all tests of this module."""
    import ray

    from idbench.ray_executor import connect

    connect(RayOptions())
    yield
    ray.shutdown()


def options(tmp_path: Path, name: str, **changes: object) -> GenerateOptions:
    values = {"workspace": tmp_path / name, "data_root": tmp_path / "data"} | changes
    return GenerateOptions(**values)


def rows(directory: Path) -> list[Sample]:
    with RunStore.open(directory) as store:
        return [replace(sample, seconds=None) for sample in store.samples()]


@pytest.mark.usefixtures("cluster")
def test_the_rows_are_those_of_local(pictures: Suite, tmp_path: Path) -> None:
    specs = [MethodSpec(name="noise"), MethodSpec(name="warp")]
    here = generate(pictures, specs, options(tmp_path, "here"))
    there = generate(
        pictures, specs, options(tmp_path, "there", ray=RayOptions(shared=tmp_path), batch_size=2)
    )
    for one, two in zip(here, there, strict=True):
        assert rows(one.directory) == rows(two.directory)
        assert (two.made, two.failed) == (6, 0)
        for sample in rows(two.directory):
            path = str(sample.path)
            assert (two.directory / path).read_bytes() == (one.directory / path).read_bytes()


@pytest.mark.usefixtures("cluster")
def test_images_on_nodes_are_collected(pictures: Suite, tmp_path: Path) -> None:
    kept = options(tmp_path, "runs", ray=RayOptions(), node_store=tmp_path / "node")
    (done,) = generate(pictures, [MethodSpec(name="noise")], kept)
    assert done.made == 6
    (expected,) = generate(pictures, [MethodSpec(name="noise")], options(tmp_path, "here"))
    assert rows(done.directory) == rows(expected.directory)
    samples = rows(done.directory)
    paths = [done.directory / str(sample.path) for sample in samples]
    originals = [tmp_path / "node" / path.relative_to(tmp_path / "runs") for path in paths]
    assert [p.read_bytes() for p in paths] == [p.read_bytes() for p in originals]

    # A driver that died before the end left images on their node: they are fetched, not made.
    for path in paths[:3]:
        path.unlink()
    # What is damaged or gone on its node is made again.
    originals[1].write_bytes(b"torn")
    originals[2].unlink()
    (again,) = generate(pictures, [MethodSpec(name="noise")], kept)
    assert (again.made, again.kept) == (2, 4)
    assert rows(done.directory) == samples
    assert all(path.is_file() for path in paths)


@pytest.mark.usefixtures("cluster")
def test_images_lost_with_their_node_are_failures(
    pictures: Suite, method_file: Callable[[str], str], tmp_path: Path
) -> None:
    """A method that damages, on its node, the image that it made first."""
    name = method_file(DAMAGING.format(node=str(tmp_path / "node")))
    kept = options(
        tmp_path, "runs", ray=RayOptions(), node_store=tmp_path / "node", workers=1, batch_size=1
    )
    (done,) = generate(pictures, [MethodSpec(name=name)], kept)
    assert (done.made, done.failed, done.all_failed) == (5, 1, 1)
    (lost,) = [sample for sample in rows(done.directory) if sample.status == "failed"]
    assert lost.reason == "lost_with_node"
    (again,) = generate(pictures, [MethodSpec(name=name)], replace(kept, retry_failed=True))
    assert (again.made, again.kept, again.all_failed) == (1, 5, 0)


DAMAGING = """
    from pathlib import Path

    class Method:
        def generate(self, requests):
            made = sorted(Path({node!r}).rglob("*.png"))
            if len(made) == 1:
                made[0].write_bytes(b"torn")
            return [request.references[0].image for request in requests]
"""


@pytest.mark.usefixtures("cluster")
def test_pieces_of_large_images_are_joined(tmp_path: Path) -> None:
    import ray

    from idbench.ray_actors import Files
    from idbench.ray_collection import PIECE, _read

    path = tmp_path / "large"
    path.write_bytes(os.urandom(3 * PIECE + 17))
    node = ray.remote(num_cpus=0)(Files).remote()
    assert ray.get(node.sizes.remote([str(path), "/no/such"])) == {str(path): 3 * PIECE + 17}
    assert _read(ray, node, str(path), 3 * PIECE + 17) == path.read_bytes()
    ray.kill(node)


@pytest.mark.usefixtures("cluster")
def test_workers_that_keep_dying_lose_nothing() -> None:
    """The small form of `idbench perf ray`."""
    arguments = ["--workers", "3", "--samples", "400", "--seconds", "0.02", "--kill-every", "1.5"]
    values = results_of(arguments).values
    assert (values["samples"], values["lost"], values["recorded_at_the_end"]) == (400, 0, 400)
    assert values["killed"] >= 1


@pytest.mark.slow
def test_64_workers_over_100_000_samples() -> None:
    """About six minutes on two cores, and 6 GB for the workers."""
    values = results_of([]).values
    assert (values["workers"], values["samples"]) == (64, 100_000)
    assert (values["lost"], values["recorded_at_the_end"]) == (0, 100_000)
    assert values["killed"] >= 0.5 * values["seconds"]
    assert values["driver_peak_mb"] < 2000


def test_a_node_store_needs_ray(pictures: Suite, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="add --executor ray"):
        generate(
            pictures, [MethodSpec(name="noise")], options(tmp_path, "runs", node_store=tmp_path)
        )


SLOW = """
    import os, signal, time
    from pathlib import Path

    class Method:
        def generate(self, requests):
            with Path(__file__).with_name("made.txt").open("a") as log:
                log.writelines(f"{request.case_id}\\n" for request in requests)
            mark = Path(__file__).with_name("killed")
            if DEADLY and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.4)
            return [request.references[0].image for request in requests]
"""


def start(folder: Path, deadly: bool, *arguments: str) -> "subprocess.Popen[bytes]":
    (folder / "method.py").write_text(textwrap.dedent(SLOW).replace("DEADLY", str(deadly)))
    command = [
        sys.executable, "-m", "idbench", "generate", "--suite", "demo", "--method",
        "python:method.py:Method", "--batch-size", "1", "--workers", "1", *arguments,
    ]  # fmt: skip
    environment = os.environ | {"IDBENCH_DATA": str(folder / "data")}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def recorded(folder: Path) -> int:
    (path,) = folder.glob("runs/demo/*/run.sqlite")
    with RunStore.open(path.parent) as store:
        return store.counts()["ok"]


@pytest.mark.parametrize("executor", ["local", "ray"])
def test_sigterm_finishes_what_has_begun(tmp_path: Path, executor: str) -> None:
    process = start(tmp_path, False, "--executor", executor)
    log = tmp_path / "made.txt"
    end = time.monotonic() + 120
    while not (log.exists() and log.read_text().count("\n") >= 2):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors.decode()
    assert b"stopping when what has begun is finished" in errors
    made = log.read_text().split()
    assert 2 <= len(made) < 21
    assert recorded(tmp_path) == len(made)
    assert out == b""


def test_deaths_on_ray_do_not_spoil_the_output(tmp_path: Path) -> None:
    process = start(tmp_path, True, "--executor", "ray", "--limit", "3")
    out, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors.decode()
    assert out == b""
    assert (tmp_path / "killed").exists()
    assert recorded(tmp_path) == 3


def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, pictures: Suite, tmp_path: Path
) -> None:
    find: Callable[..., object] = lambda name: None  # noqa: E731 - as if it were not installed
    monkeypatch.setattr("idbench.ray_executor.importlib.util.find_spec", find)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'idbench\[ray\]'"):
        generate(pictures, [MethodSpec(name="noise")], options(tmp_path, "runs", ray=RayOptions()))
