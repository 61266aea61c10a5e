"""Cost of a large suite before the first image: building, loading, planning and listing it."""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from idbench.generate import plan
from idbench.perf_record import Measured
from idbench.prompts.cases import Case, Person
from idbench.prompts.freezing import write_suite
from idbench.prompts.references import identified, reference_of
from idbench.prompts.spooling import spooled_suite
from idbench.prompts.suites import load_suite
from idbench.store import RunIdentity, RunStore

NAME = "perf-plan"
IDENTITIES = 500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `idbench perf plan`."""
    parser.add_argument(
        "--cases", type=int, default=100_000, help="cases of the larger suite (default 100000)"
    )


def measure(args: argparse.Namespace) -> Measured:
    """Times each step on a tenth of the cases and on all.

    Every step runs in a fresh process, so its peak memory is its own.

    Raises:
        ValueError: If there are fewer than 1,000 cases.
    """
    if args.cases < 1000:
        raise ValueError(f"--cases must be at least 1000, got {args.cases}")
    lines = [f"{'step':<8}{'cases':>10}{'seconds':>10}{'CPU s':>10}{'peak MB':>10}"]
    values: dict[str, dict[str, dict[str, float]]] = {name: {} for name in STEPS}
    for cases in (args.cases // 10, args.cases):
        with tempfile.TemporaryDirectory() as folder:
            for name, step in STEPS.items():
                seconds, cpu, peak = alone(step, Path(folder), cases)
                found = {"seconds": seconds, "cpu_seconds": cpu, "peak_mb": peak}
                values[name][str(cases)] = found
                lines.append(f"{name:<8}{cases:>10,}{seconds:>10.1f}{cpu:>10.1f}{peak:>10.0f}")
    return Measured(text="\n".join(lines), values=values)


Step = Callable[[Path, int], None]


def alone(step: Step, folder: Path, cases: int) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak megabytes of a step in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(_timed, step, folder, cases).result()


def _timed(step: Step, folder: Path, cases: int) -> tuple[float, float, float]:
    start, cpu = time.perf_counter(), time.process_time()
    step(folder, cases)
    unit = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, kilobytes on Linux
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return time.perf_counter() - start, time.process_time() - cpu, peak


def _cases(count: int) -> Iterator[Case]:
    people = [
        reference_of(path=f"{n}.png", sha256=f"{n:064x}", source="folder:/none", gender="unknown")
        for n in range(IDENTITIES)
    ]
    for number in range(count):
        reference = people[number % IDENTITIES]
        yield identified(
            NAME,
            1,
            alias=str(number),
            kind="single_id",
            references=(reference,),
            prompt=f"a person with a happy expression in a side view, scene {number // IDENTITIES}",
            people=(
                Person(person=0, ref_id=reference.ref_id, expression="happy", orientation="side"),
            ),
            tags={"prompt_attr": ("short",)},
        )


def _build(folder: Path, cases: int) -> None:
    suite = spooled_suite(_cases(cases), name=NAME, kind="single_id")
    write_suite(suite, folder / "suite")


def _load(folder: Path, cases: int) -> None:
    found = load_suite(folder / "suite", data_root=folder)
    if len(found.cases) != cases:
        raise RuntimeError(f"{len(found.cases)} cases instead of {cases}")


def _list(folder: Path, cases: int) -> None:
    seen = sum(1 for case in load_suite(folder / "suite", data_root=folder).cases if case.alias)
    if seen != cases:
        raise RuntimeError(f"{seen} cases instead of {cases}")


def _plan(folder: Path, cases: int) -> None:
    del cases  # the suite knows
    suite = load_suite(folder / "suite", data_root=folder)
    identity = RunIdentity(
        label="none",
        method={"name": "none", "target": "none", "args": {}, "fingerprint": {}},
        suite={"name": suite.name, "sha256": suite.sha256},
        seed_policy="hashed",
        size=None,
        environment={},
    )
    with RunStore.create(folder / "runs", identity) as store, store.writing():
        plan(store, suite, suite.cases)


STEPS: dict[str, Step] = {
    "build": _build,
    "load": _load,
    "list": _list,
    "plan": _plan,
}
