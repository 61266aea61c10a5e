"""What the engine costs: beside a bare loop, and as workers are added.

The generator is simulated: it sleeps for its second and gives a picture. So the time is that of
the engine alone: seeds, requests, PNG files with their hashes, the database, the hand-over.
"""

import argparse
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from idbench.generate import GenerateOptions, generate
from idbench.method_spec import MethodSpec
from idbench.methods.protocol import Request
from idbench.perf_record import Measured
from idbench.prompts.cases import Case
from idbench.prompts.files import sha256_of
from idbench.prompts.freezing import suite_of, write_suite
from idbench.prompts.references import identified, reference_of
from idbench.prompts.sources import folder_source
from idbench.prompts.suites import Suite, load_suite

IDENTITIES = 4
SIDE = 512


class Sleeper:
    """A method that takes `seconds` per image and returns its reference with the seed in it."""

    def __init__(self, seconds: float, marks: str) -> None:
        """Sleeps `seconds` for each image; notes when it was asked, by process, in `marks`."""
        self.seconds, self._marks = seconds, Path(marks)

    def __call__(self, request: Request) -> Image.Image:
        """The reference, after a while."""
        with (self._marks / str(os.getpid())).open("a") as file:
            file.write(f"{time.monotonic()}\n")
        time.sleep(self.seconds)
        image = request.references[0].image.copy()
        image.putpixel((0, 0), (request.seed & 255, request.seed >> 8 & 255, 0))
        return image


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `idbench perf engine`."""
    parser.add_argument(
        "--samples", type=int, default=20, metavar="N", help="per worker (default 20)"
    )
    parser.add_argument(
        "--seconds", type=float, default=1.0, metavar="S", help="of the generator (default 1)"
    )
    parser.add_argument(
        "--repeats", type=int, default=3, metavar="N", help="of loop and engine (default 3)"
    )
    parser.add_argument(
        "--workers",
        type=int,
        nargs="+",
        default=[1, 2, 4, 8],
        metavar="N",
        help="how many to measure (default 1 2 4 8)",
    )


def measure(args: argparse.Namespace) -> Measured:
    """Times a bare loop, the engine in one process, and the engine with workers.

    Raises:
        ValueError: If there are too few samples to tell anything.
    """
    if args.samples < 3 or args.seconds <= 0 or min(args.repeats, *args.workers) < 1:
        raise ValueError("--samples must be at least 3, --seconds above 0, the others at least 1")
    with tempfile.TemporaryDirectory(prefix="idbench-perf-") as temporary:
        folder = Path(temporary)
        suite = _suite(folder, args.samples)
        pairs = []
        for turn in range(args.repeats):  # in turns, so that both meet the same other work
            bare_seconds = _bare(suite, args, folder / f"bare-{turn}")
            pairs.append((bare_seconds, _engine(suite, args, folder / f"one-{turn}", 1)))
        bare = median(seconds for seconds, _ in pairs)
        engine_seconds = median(1 / timed.rate for _, timed in pairs)
        overheads = [1 / timed.rate / seconds - 1 for seconds, timed in pairs]
        overhead = median(overheads)
        start = median(timed.start for _, timed in pairs)
        rates = {}
        for workers in args.workers:
            suite = _suite(folder, args.samples * workers)
            rates[workers] = _engine(suite, args, folder / f"w{workers}", workers).rate
    lines = [
        f"{args.samples} samples of {args.seconds:g} s per worker, {SIDE} x {SIDE} px",
        f"bare loop          {bare:8.4f} s per sample",
        f"engine             {engine_seconds:8.4f} s per sample",
        f"overhead           {100 * overhead:8.2f} %, the median of "
        + ", ".join(f"{100 * each:.2f}" for each in overheads),
        f"before the first   {start:8.2f} s, once per run",
        "",
        f"{'workers':>8}{'samples/s':>12}{'of ideal':>10}",
    ]
    ideal = 1 / bare
    for workers, rate in rates.items():
        lines.append(f"{workers:>8}{rate:>12.3f}{100 * rate / (workers * ideal):>9.1f}%")
    return Measured(
        text="\n".join(lines),
        values={
            "bare_seconds_per_sample": bare,
            "engine_seconds_per_sample": engine_seconds,
            "overhead": overhead,
            "overhead_of_each_repeat": overheads,
            "seconds_before_first": start,
            "samples_per_second": {str(n): rate for n, rate in rates.items()},
            "share_of_ideal": {str(n): rate / (n * ideal) for n, rate in rates.items()},
        },
    )


def _suite(folder: Path, samples: int) -> Suite:
    pictures = folder / "pictures"
    references = []
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    pictures.mkdir(exist_ok=True)
    for number in range(IDENTITIES):
        path = pictures / f"{number}.png"
        if not path.exists():
            waves = [np.sin(rows / 30 + number), np.cos(columns / 20), np.sin((rows + columns) / 9)]
            Image.fromarray((np.stack(waves, -1) * 100 + 128).astype(np.uint8)).save(path)
        source = folder_source(pictures)
        references.append(reference_of(path=path.name, sha256=sha256_of(path), source=source))
    cases: list[Case] = [
        identified(
            "perf",
            1,
            alias=str(number),
            kind="single_id",
            references=(references[number % IDENTITIES],),
            prompt=f"a portrait, scene {number}",
        )
        for number in range(samples)
    ]
    target = folder / f"suite-{samples}"
    if not target.exists():
        write_suite(suite_of(cases, name="perf", kind="single_id"), target)
    return load_suite(target, data_root=folder)


def _bare(suite: Suite, args: argparse.Namespace, folder: Path) -> float:
    """Seconds per sample of the loop that one would write without a harness."""
    from idbench.requests import build_request

    folder.mkdir()
    marks = _marks(folder)
    method = Sleeper(args.seconds, str(marks))
    for case in suite.cases:
        image = method(build_request(case, 0, 0, data_root=folder.parent))
        image.save(folder / f"{case.case_id}.png", compress_level=1)
    return 1 / _rate(marks)


@dataclass(frozen=True, slots=True)
class _Timed:
    start: float  # seconds until the first sample began
    rate: float  # samples per second while all workers were at work


def _engine(suite: Suite, args: argparse.Namespace, folder: Path, workers: int) -> _Timed:
    marks = _marks(folder)
    arguments = {"seconds": args.seconds, "marks": str(marks)}
    spec = MethodSpec(name="python:idbench.perf_engine:Sleeper", args=arguments)
    options = GenerateOptions(workspace=folder, data_root=folder, batch_size=1, workers=workers)
    start = time.monotonic()
    (done,) = generate(suite, [spec], options)
    if done.made != len(suite.cases):
        raise RuntimeError(f"{done.made} samples were made of {len(suite.cases)}")
    first = min(float(file.read_text().split()[0]) for file in marks.iterdir())
    return _Timed(first - start, _rate(marks))


def _marks(folder: Path) -> Path:
    marks = folder / "marks"
    marks.mkdir(parents=True)
    return marks


def _rate(marks: Path) -> float:
    """Samples per second of all workers together, each from its first sample to its last.

    Neither their start nor their end counts, so it is the rate of a run without either.
    """
    rate = 0.0
    for file in marks.iterdir():
        times = [float(line) for line in file.read_text().split()]
        if len(times) > 1:
            rate += (len(times) - 1) / (times[-1] - times[0])
    return rate
