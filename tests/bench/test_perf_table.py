import argparse
import re

import pytest

from idbench import perf_table


def measured(*flags):
    parser = argparse.ArgumentParser()
    perf_table.add_arguments(parser)
    return perf_table.measure(parser.parse_args(list(flags))).text


def test_every_row_is_loaded_and_printed():
    text = measured("--rows", "8000")
    assert text.startswith("8,000 score rows: 10 runs x 100 samples x 8 columns")
    times = dict(re.findall(r"^(\w+) +([\d.]+) s", text, re.MULTILINE))
    assert float(times["total"]) == pytest.approx(
        sum(float(times[step]) for step in ("load", "aggregate", "print")), abs=0.02
    )


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="at least 80, got 79"):
        measured("--rows", "79")


@pytest.mark.slow
def test_a_million_rows_take_a_few_seconds_and_bounded_memory():
    text = measured()
    total = float(re.search(r"^total +([\d.]+) s", text, re.MULTILINE)[1])
    peak, before = map(float, re.search(r"([\d]+) MB at most, ([\d]+) MB", text).groups())
    # Measured: 4 s on one slow core, 400 MB; the bounds leave room for a busy machine.
    assert total < 30
    assert peak - before < 800
