"""Many simulated workers on Ray while one of them is killed every second: nothing may get lost."""

import argparse
import os
import random
import resource
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from idbench.executors import RayOptions, run_batches
from idbench.generate import plan
from idbench.perf_record import Measured
from idbench.progress import Progress
from idbench.prompts.cases import Case
from idbench.prompts.references import identified, reference_of
from idbench.prompts.spooling import spooled_suite
from idbench.records import Sample
from idbench.store import RunIdentity, RunStore

Batch = tuple[Sample, ...]
SAMPLES_PER_CASE = 10


@dataclass(frozen=True, slots=True)
class Fake:
    """A worker that sleeps and says that it made an image; its process leaves its number."""

    folder: Path
    seconds: float

    def __call__(self, batch: Batch) -> list[Sample]:
        """The records, after a while."""
        mark = self.folder / str(os.getpid())
        if not mark.exists():
            mark.touch()
        time.sleep(self.seconds * len(batch))
        return [replace(sample, status="ok", sha256=sample.case_id) for sample in batch]


class Samples:
    """Batches of samples, for the executor."""

    def split(self, batch: Batch) -> list[Batch]:
        """One batch per sample."""
        return [(sample,) for sample in batch]

    def poison(self, batch: Batch, detail: str) -> list[Sample]:
        """Samples that killed their worker twice, or were unlucky twice."""
        return [
            replace(sample, status="failed", reason="poison", detail=detail) for sample in batch
        ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `idbench perf ray`."""
    parser.add_argument("--workers", type=int, default=64, metavar="N", help="default 64")
    parser.add_argument("--samples", type=int, default=100_000, metavar="N", help="default 100000")
    parser.add_argument(
        "--seconds", type=float, default=0.05, metavar="S", help="per fake sample (default 0.05)"
    )
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="default 16")
    parser.add_argument(
        "--kill-every", type=float, default=1.0, metavar="S", help="seconds (default 1)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the killer")


def measure(args: argparse.Namespace) -> Measured:
    """Runs the plan of a large run through workers that keep dying.

    Raises:
        ModuleNotFoundError: If ray is not installed.
        RuntimeError: If a sample was lost or counted twice.
    """
    for name in ("workers", "samples", "batch_size"):
        if getattr(args, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(args, name)}")
    with tempfile.TemporaryDirectory(prefix="idbench-perf-") as temporary:
        folder = Path(temporary)
        marks = folder / "processes"
        marks.mkdir()
        with _store(folder, args.samples) as store, store.writing():
            total = store.counts().total()
            before = _peak()
            killer = _Killer(marks, args.kill_every, args.seed)
            start = time.perf_counter()
            with killer, Progress("simulate", total, "samples") as progress:
                seen = 0
                for samples in _results(store, "pending", marks, args):
                    store.record(samples)
                    seen += len(samples)
                    progress.advance(len(samples))
                seconds = time.perf_counter() - start
                first = store.counts()
                # As --retry-failed does: some were hit by the killer twice.
                while store.counts()["failed"]:
                    for samples in _results(store, "failed", marks, args):
                        store.record(samples)
            counts = store.counts()
        if seen != total or counts["ok"] != total:
            raise RuntimeError(f"{seen} results for {total} samples, {counts['ok']} recorded")
    rate = total / seconds
    ideal = args.workers / args.seconds
    text = [
        f"{args.workers} Ray workers, {total:,} fake samples of {args.seconds:g} s, batches of "
        f"{args.batch_size}",
        f"killed            {killer.killed:8} workers, one every {args.kill_every:g} s",
        f"recorded once     {seen:8,} samples, {first['pending']} lost; {first['failed']} killed "
        "twice, made by --retry-failed",
        f"time              {seconds:8.1f} s, the start of the workers included",
        f"rate              {rate:8.1f} samples/s of {ideal:.0f} without any cost",
        f"driver's memory   {_peak():8.0f} MB at most, {before:.0f} MB before Ray",
    ]
    return Measured(
        text="\n".join(text),
        values={
            "workers": args.workers,
            "samples": total,
            "killed": killer.killed,
            "lost": first["pending"],
            "killed_twice": first["failed"],
            "recorded_at_the_end": counts["ok"],
            "seconds": seconds,
            "samples_per_second": rate,
            "driver_peak_mb": _peak(),
        },
    )


class _Killer:
    """Kills a random worker now and then, from a thread; the workers are those that left a mark."""

    def __init__(self, marks: Path, every: float, seed: int) -> None:
        self._marks, self._every, self._random = marks, every, random.Random(seed)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.killed = 0

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(self._every):
            marks = sorted(self._marks.iterdir())
            if marks:
                mark = self._random.choice(marks)
                mark.unlink()
                try:
                    os.kill(int(mark.name), signal.SIGKILL)
                    self.killed += 1
                except ProcessLookupError:
                    continue


def _results(
    store: RunStore, status: str, marks: Path, args: argparse.Namespace
) -> Iterator[list[Sample]]:
    return run_batches(
        _batches(store, status, args.batch_size),
        partial(Fake, marks, args.seconds),
        workers=args.workers,
        parts=Samples(),
        ray=RayOptions(),
    )


def _batches(store: RunStore, status: str, size: int) -> Iterator[Batch]:
    batch: list[Sample] = []
    for sample in store.walk((status,)):
        batch.append(sample)
        if len(batch) == size:
            yield tuple(batch)
            batch = []
    if batch:
        yield tuple(batch)


def _cases(count: int) -> Iterator[Case]:
    reference = reference_of(path="0.png", sha256=f"{0:064x}", source="folder:/none")
    for number in range(count):
        yield identified(
            "perf", 1, alias=str(number), kind="single_id", references=(reference,),
            prompt=f"a portrait, scene {number}",
        )  # fmt: skip


def _store(folder: Path, samples: int) -> RunStore:
    cases = _cases(max(1, samples // SAMPLES_PER_CASE))
    suite = spooled_suite(cases, name="perf", kind="single_id", samples_per_case=SAMPLES_PER_CASE)
    identity = RunIdentity(
        label="fake",
        method={"name": "fake", "target": "none", "args": {}, "fingerprint": {}},
        suite={"name": suite.name, "sha256": suite.sha256},
        seed_policy="hashed",
        size=None,
        environment={},
    )
    store = RunStore.create(folder / "runs", identity)
    plan(store, suite, suite.cases)
    return store


def _peak() -> float:
    """Most memory that this process has held, in megabytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def results_of(arguments: Sequence[str]) -> Measured:
    """As `measure`, from arguments as they are typed."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return measure(parser.parse_args(arguments))
