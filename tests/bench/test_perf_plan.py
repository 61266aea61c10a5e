"""The benchmark of large suites runs, and memory does not grow with the cases."""

import argparse

import pytest

from idbench.perf_plan import STEPS, measure


def test_every_step_is_measured_and_memory_stays() -> None:
    lines = measure(argparse.Namespace(cases=10_000)).text.splitlines()[1:]
    rows = [line.split() for line in lines]
    assert [row[0] for row in rows] == [*STEPS, *STEPS]
    peaks = {(row[0], row[1]): float(row[-1]) for row in rows}
    for step in STEPS:
        # 9,000 more cases would be 9 MB if they were kept as objects
        assert peaks[step, "10,000"] - peaks[step, "1,000"] < 6


def test_a_tiny_suite_measures_nothing() -> None:
    with pytest.raises(ValueError, match="at least 1000"):
        measure(argparse.Namespace(cases=10))
