"""How plan, resume and table grow with the samples of a run: seconds and peak memory."""

import argparse
import math
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

from idbench.aggregate import aggregate
from idbench.generate import GenerateOptions, generate
from idbench.method_spec import MethodSpec
from idbench.perf_plan import alone
from idbench.perf_record import Measured
from idbench.prompts.cases import Case
from idbench.prompts.files import sha256_of
from idbench.prompts.freezing import write_suite
from idbench.prompts.references import identified, reference_of
from idbench.prompts.sources import folder_source
from idbench.prompts.spooling import spooled_suite
from idbench.prompts.suites import load_suite
from idbench.records import Column, Score
from idbench.store import RunStore, find_runs, load_frame
from idbench.tables import render

IDENTITIES = 500
SAMPLES_PER_CASE = 10
COLUMN = Column(
    name="metric@strict[none]", fingerprint="0", unit="", higher_is_better=True, low=0.0, high=1.0,
    axis="preservation", comparable_to_published=False, details="{}",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `idbench perf growth`."""
    parser.add_argument(
        "--samples",
        type=int,
        nargs="+",
        default=[10_000, 100_000, 1_000_000],
        metavar="N",
        help="sizes of the run (default 10000 100000 1000000)",
    )


def measure(args: argparse.Namespace) -> Measured:
    """Times each step at each size, in a fresh process, so that its peak memory is its own.

    The exponent is that of the seconds between the last two sizes: 1 is linear.

    Raises:
        ValueError: If there are fewer than two sizes, or one is too small.
    """
    sizes = sorted(set(args.samples))
    if len(sizes) < 2 or sizes[0] < IDENTITIES * SAMPLES_PER_CASE:
        least = IDENTITIES * SAMPLES_PER_CASE
        raise ValueError(f"--samples must be two sizes or more, of at least {least}")
    found: dict[str, dict[int, tuple[float, float]]] = {name: {} for name, _ in STEPS}
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="idbench-perf-") as folder:
            for name, step in STEPS:
                _, cpu, peak = alone(step, Path(folder), size)
                found[name][size] = cpu, peak
    lines = [f"{'step':<8}{'samples':>12}{'CPU s':>10}{'µs/sample':>12}{'peak MB':>10}"]
    for name in SHOWN:
        for size, (cpu, peak) in found[name].items():
            lines.append(f"{name:<8}{size:>12,}{cpu:>10.2f}{1e6 * cpu / size:>12.1f}{peak:>10.0f}")
        lines.append(f"{'':<8}exponent {exponent(found[name]):.2f}")
    return Measured(
        text="\n".join(lines),
        values={
            name: {
                "exponent": exponent(found[name]),
                "cpu_seconds": {str(size): cpu for size, (cpu, _) in found[name].items()},
                "peak_mb": {str(size): peak for size, (_, peak) in found[name].items()},
            }
            for name in SHOWN
        },
    )


def exponent(found: dict[int, tuple[float, float]]) -> float:
    """Slope of log seconds over log size between the last two sizes."""
    (small, (fast, _)), (large, (slow, _)) = list(found.items())[-2:]
    return math.log(slow / fast) / math.log(large / small)


def _cases(folder: Path, count: int) -> Iterator[Case]:
    pictures = folder / "pictures"
    pictures.mkdir()
    references = []
    for number in range(IDENTITIES):
        path = pictures / f"{number}.png"
        Image.new("RGB", (8, 8), (number % 256, number // 256, 0)).save(path)
        references.append(
            reference_of(path=path.name, sha256=sha256_of(path), source=folder_source(pictures))
        )
    for number in range(count):
        yield identified(
            "growth",
            1,
            alias=str(number),
            kind="single_id",
            references=(references[number % IDENTITIES],),
            prompt=f"a portrait, scene {number // IDENTITIES}",
        )


def _build(folder: Path, samples: int) -> None:
    cases = _cases(folder, samples // SAMPLES_PER_CASE)
    suite = spooled_suite(cases, name="growth", kind="single_id", samples_per_case=SAMPLES_PER_CASE)
    write_suite(suite, folder / "suite")


def _run(folder: Path, stop: Callable[[], bool]) -> int:
    suite = load_suite(folder / "suite", data_root=folder)
    options = GenerateOptions(workspace=folder / "runs", data_root=folder, stop=stop)
    try:
        (done,) = generate(suite, [MethodSpec(name="copy")], options)
    except KeyboardInterrupt:
        return 0
    return done.made


def _plan(folder: Path, samples: int) -> None:
    """Everything up to the first image, of a run that is new."""
    del samples  # the suite knows
    _run(folder, lambda: True)


def _fill(folder: Path, samples: int) -> None:
    """Makes all but one sample look done, each with a score; all share one image file."""
    (directory,) = find_runs([folder / "runs"])
    (directory / "images").mkdir(exist_ok=True)
    Image.new("RGB", (8, 8)).save(directory / "images" / "one.png")
    with RunStore.open(directory) as store:
        store.add_columns([COLUMN])
        store.add_scores(
            Score(
                case_id=sample.case_id,
                sample=sample.sample,
                column=COLUMN.name,
                fingerprint=COLUMN.fingerprint,
                value=(number % 97) / 97,
            )
            for number, sample in enumerate(store.walk(("pending",)))
        )
    database = sqlite3.connect(directory / "run.sqlite")
    with database:
        database.execute(
            "UPDATE samples SET status = 'ok', path = 'images/one.png', sha256 = 'x' "
            "WHERE (case_id, sample) > (SELECT case_id, sample FROM samples "
            "ORDER BY case_id, sample LIMIT 1)"
        )
        done = database.execute("SELECT COUNT(*) FROM samples WHERE status = 'ok'").fetchone()[0]
    database.close()
    if done != samples - 1:
        raise RuntimeError(f"{done} samples are done instead of {samples - 1}")


def _resume(folder: Path, samples: int) -> None:
    """Finds the one sample that is missing, and makes it."""
    del samples
    made = _run(folder, lambda: False)
    if made != 1:
        raise RuntimeError(f"{made} samples were made instead of 1")


def _table(folder: Path, samples: int) -> None:
    frame, columns = load_frame([folder / "runs"])
    if len(frame) != samples:
        raise RuntimeError(f"{len(frame)} rows instead of {samples}")
    render(aggregate(frame), columns, style="terminal")


STEPS = (
    ("build", _build),
    ("plan", _plan),
    ("fill", _fill),
    ("resume", _resume),
    ("table", _table),
)
SHOWN = ("plan", "resume", "table")
