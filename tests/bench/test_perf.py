"""`idbench perf`: that it measures what it says; the numbers themselves are of the machine."""

import argparse
import json
import math
from pathlib import Path

import pytest

from idbench import perf_engine, perf_growth
from idbench.commands import perf
from idbench.perf_record import Measured, machine, side_by_side, write_record


def arguments(module: object, *given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)  # type: ignore[attr-defined]
    return parser.parse_args(given)


def test_the_engine_is_timed_beside_a_bare_loop() -> None:
    short = ["--samples", "3", "--seconds", "0.2", "--workers", "1", "2", "--repeats", "1"]
    given = arguments(perf_engine, *short)
    values = perf_engine.measure(given).values
    # Both sleep, so neither can be faster than that; the workers sleep at the same time.
    assert values["bare_seconds_per_sample"] > 0.2
    assert values["engine_seconds_per_sample"] > 0.2
    assert values["overhead"] == pytest.approx(
        values["engine_seconds_per_sample"] / values["bare_seconds_per_sample"] - 1
    )
    assert values["samples_per_second"]["1"] < 5
    assert values["samples_per_second"]["2"] < 10


def test_growth_is_measured_at_every_size() -> None:
    given = arguments(perf_growth, "--samples", "5000", "20000")
    values = perf_growth.measure(given).values
    assert list(values) == ["plan", "resume", "table"]
    for step in values.values():
        assert list(step["cpu_seconds"]) == ["5000", "20000"]
        assert min(step["cpu_seconds"].values()) > 0
    # 15,000 more samples would be 5 MB if plan or resume kept them.
    for name in ("plan", "resume"):
        small, large = values[name]["peak_mb"].values()
        assert large - small < 15


def test_the_exponent_is_that_of_the_last_two_sizes() -> None:
    found = {10: (5.0, 0.0), 100: (1.0, 0.0), 1000: (100.0, 0.0)}
    assert perf_growth.exponent(found) == pytest.approx(2)
    assert perf_growth.exponent({1: (3.0, 0.0), 7: (21.0, 0.0)}) == pytest.approx(1)


@pytest.mark.parametrize("given", [["--samples", "100"], ["--samples", "9000"]])
def test_too_few_samples_show_no_growth(given: list[str]) -> None:
    with pytest.raises(ValueError, match="two sizes or more, of at least 5000"):
        perf_growth.measure(arguments(perf_growth, *given))


def test_texts_stand_side_by_side_where_there_is_room() -> None:
    texts = {"one": "a\nbb", "two": "c", "three": "d" * 30}
    assert side_by_side(texts, 40).splitlines() == [
        "one   |   two",
        "---   |   ---",
        "a     |   c",
        "bb    |",
        "",
        "three",
        "-" * 30,
        "d" * 30,
    ]


def test_a_record_says_what_was_measured_and_where(tmp_path: Path) -> None:
    path = write_record(
        tmp_path, "engine", Measured(text="a\nb", values={"x": 1.5}), {"n": 3}, "cpu"
    )
    record = json.loads(path.read_text())
    assert (record["benchmark"], record["arguments"]) == ("engine", {"n": 3})
    assert (record["values"], record["text"]) == ({"x": 1.5}, ["a", "b"])
    assert record["machine"]["cores"] >= 1
    assert math.isclose(record["machine"]["memory_gib"], machine()["memory_gib"])
    assert "python" in record["machine"]


class Quick:
    """Two measurements: one that works and one that cannot."""

    def __init__(self, fails: bool) -> None:
        self.fails = fails

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--count", type=int, default=1)

    def measure(self, args: argparse.Namespace) -> Measured:
        if self.fails:
            raise ModuleNotFoundError("no such package; pip install it")
        return Measured(text=f"counted {args.count}", values={"count": args.count})


def test_without_a_name_all_are_measured_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    modules = {"good": Quick(fails=False), "bad": Quick(fails=True)}
    monkeypatch.setattr(perf, "MEASUREMENTS", {name: (name, "help") for name in modules})
    monkeypatch.setattr(perf, "_measurement", modules.__getitem__)
    short = (("few", "good", ("--count", "2")), ("none", "bad", ()), ("more", "good", ()))
    monkeypatch.setattr(perf, "SHORT", short)
    parser = argparse.ArgumentParser()
    perf.add_arguments(parser)
    assert perf.run(parser.parse_args(["--output", str(tmp_path)])) == 1
    out = capsys.readouterr().out
    assert "few         |   more" in out
    assert "none: not measured: no such package; pip install it" in out
    assert json.loads((tmp_path / "few.json").read_text())["values"] == {"count": 2}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few.json", "more.json"]

    assert perf.run(parser.parse_args(["good", "--count", "5"])) == 0
    assert capsys.readouterr().out == "counted 5\n"
    assert perf.run(parser.parse_args(["good", "--output", str(tmp_path / "one")])) == 0
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["good.json"]


def test_the_short_form_has_every_measurement() -> None:
    assert {what for _, what, _ in perf.SHORT} == set(perf.MEASUREMENTS)
    for _, what, given in perf.SHORT:
        arguments(perf._measurement(perf.MEASUREMENTS[what][0]), *given)
