"""`idbench perf table`: how long the table of many scores takes, and how much memory."""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from idbench.aggregate import aggregate
from idbench.perf_record import Measured
from idbench.records import Column, Sample, Score
from idbench.store import RunIdentity, RunStore, load_frame
from idbench.tables import render

RUNS, COLUMNS, IDENTITIES = 10, 8, 100
CHUNK = 20_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this measurement."""
    parser.add_argument(
        "--rows", type=int, default=1_000_000, metavar="N", help="score rows (default 1000000)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the scores")


def measure(args: argparse.Namespace) -> Measured:
    """Writes runs with random scores, then loads, aggregates and prints them, timing each step.

    Raises:
        ValueError: If there are too few rows for one sample per run and column.
    """
    samples = args.rows // (RUNS * COLUMNS)
    if samples < 1:
        raise ValueError(f"--rows must be at least {RUNS * COLUMNS}, got {args.rows}")
    columns = [_column(place) for place in range(COLUMNS)]
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        start = time.perf_counter()
        for run in range(RUNS):
            _write(workspace, run, samples, columns, args.seed)
        written = time.perf_counter()
        before = _peak()
        frame, known = load_frame([workspace])
        loaded = time.perf_counter()
        aggregates = aggregate(frame)
        aggregated = time.perf_counter()
        table = render(aggregates, known, style="terminal")
        printed = time.perf_counter()
    rows = len(frame)
    text = "\n".join(
        [
            f"{rows:,} score rows: {RUNS} runs x {samples:,} samples x {COLUMNS} columns",
            f"write      {written - start:7.2f} s (not part of the total)",
            f"load       {loaded - written:7.2f} s",
            f"aggregate  {aggregated - loaded:7.2f} s",
            f"print      {printed - aggregated:7.2f} s, {len(table.splitlines())} lines",
            f"total      {printed - written:7.2f} s",
            f"memory     {_peak():7.0f} MB at most, {before:.0f} MB before loading",
        ]
    )
    values = {
        "rows": rows,
        "load_seconds": loaded - written,
        "aggregate_seconds": aggregated - loaded,
        "print_seconds": printed - aggregated,
        "total_seconds": printed - written,
        "peak_mb": _peak(),
        "before_mb": before,
    }
    return Measured(text=text, values=values)


def _column(place: int) -> Column:
    return Column(
        name=f"metric{place}@strict[random]",
        fingerprint=f"{place:016x}",
        unit="",
        higher_is_better=True,
        low=0.0,
        high=1.0,
        axis="preservation",
        comparable_to_published=False,
        details="{}",
    )


def _write(workspace: Path, run: int, samples: int, columns: list[Column], seed: int) -> None:
    identity = RunIdentity(
        label=f"method {run}",
        method={"name": f"method-{run}", "target": "none", "args": {}, "fingerprint": {"run": run}},
        suite={"name": "perf", "target": "perf", "version": 1, "kind": "single_id", "sha256": "0"},
        seed_policy="hashed",
        size=None,
        environment={},
    )
    random = np.random.default_rng([seed, run])
    with RunStore.create(workspace, identity) as store:
        cases = [f"c{place:016x}" for place in range(samples)]
        store.plan(
            (
                Sample(case_id=case, sample=0, seed=0, status="pending"),
                f"r{place % IDENTITIES:012d}",
                1,
                {"style": ["photo" if place % 2 else "anime"]},
            )
            for place, case in enumerate(cases)
        )
        store.add_columns(columns)
        for column in columns:
            values = random.random(samples)
            for first in range(0, samples, CHUNK):
                store.add_scores(
                    Score(
                        case_id=case,
                        sample=0,
                        column=column.name,
                        fingerprint=column.fingerprint,
                        value=None if value < 0.02 else float(value),
                        reason="no_face" if value < 0.02 else None,
                    )
                    for case, value in zip(
                        cases[first : first + CHUNK], values[first : first + CHUNK], strict=True
                    )
                )


def _peak() -> float:
    """Most memory that this process has held, in megabytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
