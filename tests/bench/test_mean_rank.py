"""The mean rank of runs over the columns of their table."""

import json
import math

import pandas as pd
import pytest

from idbench.aggregate import AGGREGATE_FRAME, reason_counts
from idbench.cli import main
from idbench.mean_rank import with_mean_rank
from idbench.records import Column
from idbench.tables import render


def column(name, higher):
    return Column(
        name=f"{name}@strict[x]", fingerprint=f"f-{name}", unit="u", higher_is_better=higher,
        low=-math.inf, high=math.inf, axis="quality", comparable_to_published=True, details="{}",
    )  # fmt: skip


def aggregates(table, columns, suite="s", n=8):
    """Method to means, one per column; None where there is no value."""
    records = [
        {
            "suite": suite, "label": method, "run": f"{method}-1", "column": of.name,
            "fingerprint": of.fingerprint, "mean": math.nan if mean is None else mean,
            "se": 0.1, "margin": 0.2, "low": 0.0, "high": 1.0,
            "n": 0 if mean is None else n, "total": 10, "samples": 10, "identities": 4,
            "reasons": "{}",
        }
        for method, means in table.items()
        for of, mean in zip(columns, means, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(records, columns=list(AGGREGATE_FRAME)).astype(AGGREGATE_FRAME)


def ranks(frame, columns, ties="min"):
    made, shown = with_mean_rank(frame, columns, ties)
    last = shown[-1]
    rows = made[made["column"] == last.name]
    return dict(zip(rows["label"], rows["mean"], strict=True)), made, last


@pytest.mark.golden
@pytest.mark.parametrize("ties", ["min", "average"])
def test_the_printed_table_gives_its_ranks(golden_file, ties):
    record = json.loads(golden_file("metrics_core.json").read_text("utf-8"))["mrank"]
    count = len(next(iter(record["table"].values())))
    columns = [column(f"m{number}", True) for number in range(count)]
    found, _, last = ranks(aggregates(record["table"], columns), columns, ties)
    assert found == pytest.approx(record[ties])
    assert last.name == f"mrank@strict[{ties}]"
    assert last.higher_is_better is False


def test_direction_counts_and_what_has_none_is_not_ranked():
    columns = [column("up", True), column("down", False), column("use", None)]
    table = {"a": [3.0, 1.0, 9.0], "b": [2.0, 3.0, 5.0], "c": [1.0, 2.0, 7.0]}
    found, _, _ = ranks(aggregates(table, columns), columns)
    assert found == {"a": 1.0, "b": 2.5, "c": 2.5}
    with pytest.raises(ValueError, match="better direction"):
        with_mean_rank(aggregates(table, columns), [columns[2]])


def test_a_run_without_a_value_has_no_rank_and_ranks_nobody():
    columns = [column("one", True), column("two", True)]
    table = {"a": [3.0, None], "b": [2.0, 1.0], "c": [1.0, 2.0]}
    found, made, last = ranks(aggregates(table, columns), columns)
    assert math.isnan(found["a"])
    assert {found["b"], found["c"]} == {1.5}
    (row,) = made[(made["column"] == last.name) & (made["label"] == "a")].to_dict("records")
    assert (row["n"], row["total"]) == (0, 10)
    assert reason_counts(row["reasons"]) == {"no_value_in_a_column": 10}


def test_suites_are_ranked_apart():
    columns = [column("one", True)]
    frame = pd.concat(
        [
            aggregates({"a": [1.0], "b": [2.0]}, columns, "s"),
            aggregates({"a": [2.0], "b": [1.0]}, columns, "t"),
        ]
    )
    made, (*_, last) = with_mean_rank(frame, columns)
    rows = made[made["column"] == last.name]
    found = {(r["suite"], r["label"]): r["mean"] for r in rows.to_dict("records")}
    assert found == {("s", "a"): 2, ("s", "b"): 1, ("t", "a"): 1, ("t", "b"): 2}


def test_a_rank_shows_its_coverage_and_says_what_it_ranks():
    columns = [column("one", True), column("two", True)]
    frame = aggregates({"a": [1.0, 1.0], "b": [2.0, 2.0]}, columns)
    made, shown = with_mean_rank(frame, columns)
    text = render(made, shown, style="csv")
    assert "mrank@strict[min]" in text
    other, _ = with_mean_rank(frame, columns[:1])
    fingerprints = {
        tuple(each.loc[each["column"] == "mrank@strict[min]", "fingerprint"].unique())
        for each in (made, other)
    }
    assert len(fingerprints) == 2


def test_the_list_names_what_is_made_from_tables_and_by_judges(capsys):
    assert main(["list", "metrics", "--json"]) == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert entries["mrank@strict[min]"]["runs_here"]
    assert entries["mrank@strict[min]"]["papers"] == ["FlexIP"]
    for name in ("dreambench_cp", "dreambench_pf", "dreambench_cp_pf"):
        entry = entries[f"{name}@strict[MODEL]"]
        assert not entry["runs_here"]
        assert "idbench judge" in entry["missing"][0]


def test_the_command_adds_the_column(tmp_path, capsys):
    pytest.importorskip("skimage")
    runs = str(tmp_path / "runs")
    arguments = ["--suite", "tiny-single", "--limit", "2", "--output", runs]
    assert main(["generate", "--method", "copy", "--method", "blur", *arguments]) == 0
    assert main(["score", runs, "--metrics", "sharpness", "--workers", "1"]) == 0
    capsys.readouterr()
    assert main(["table", runs, "--mrank", "--style", "json"]) == 2
    assert "better direction" in capsys.readouterr().err
