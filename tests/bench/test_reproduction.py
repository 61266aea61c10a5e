import argparse
import json
import math
import shlex
from dataclasses import replace
from importlib import import_module

import pandas as pd
import pytest

from idbench import reproduction_text as text
from idbench.aggregate import AGGREGATE_FRAME, aggregate
from idbench.commands import reproduce as verb
from idbench.methods.registry import method_info
from idbench.metrics.registry import resolve, resolve_sets
from idbench.paper_tables import find_table, load_tables
from idbench.records import Column, Sample, Score
from idbench.reproduction import reproduce
from idbench.requirements import needs_of_row
from idbench.store import RunError, RunIdentity, RunStore, load_frame


def column(name, comparable=True, fingerprint="f" * 16):
    return Column(
        name=name,
        fingerprint=fingerprint,
        unit="",
        higher_is_better=True,
        low=-1.0,
        high=2.0,
        axis="preservation",
        comparable_to_published=comparable,
        details="{}",
    )


LANDMARKDIFF = column("landmarkdiff@ibench[mtcnn]")
FACESIM = column("facesim@ibench[antelopev2]")
SUITE = "ibench-chineseid-long"


def make_run(workspace, method, values, *, suite=SUITE, args=None, columns=(LANDMARKDIFF,)):
    """A run directory whose samples, one per identity, have these values in each column."""
    identity = RunIdentity(
        label=method,
        method={"name": method, "target": method, "args": args or {}, "fingerprint": {"m": method}},
        suite={"name": suite, "target": suite, "version": 1, "kind": "single_id", "sha256": "a"},
        seed_policy="hashed",
        size=None,
        environment={},
    )
    with RunStore.create(workspace, identity) as store:
        cases = [f"c{index:016x}" for index in range(len(values))]
        store.plan(
            (Sample(case_id=case, sample=0, seed=0, status="pending"), f"r{case}", 1, {})
            for case in cases
        )
        store.add_columns(columns)
        store.add_scores(
            Score(
                case_id=case,
                sample=0,
                column=each.name,
                fingerprint=each.fingerprint,
                value=None if isinstance(value, str) else value,
                reason=value if isinstance(value, str) else None,
            )
            for each in columns
            for case, value in zip(cases, values, strict=True)
        )
        return store.directory


@pytest.fixture
def workspace(tmp_path):
    # Stand-ins with known means: 0.072 (3 of 4 samples), 0.050 and 0.095.
    make_run(tmp_path, "pulid-flux", [0.070, 0.071, 0.075, "no_face"])
    make_run(tmp_path, "editid", [0.040, 0.050, 0.060])
    make_run(tmp_path, "editidv2", [0.090, 0.095, 0.100])
    return tmp_path


def found_in(workspace, *rows):
    return verb.measure(find_table("editidv2:table1"), [workspace], rows)


def cell(found, row, name="landmarkdiff"):
    (only,) = [each for each in found.row(row) if each.column.name == name]
    return only


def test_differences_and_verdicts_by_hand(workspace):
    found = found_in(workspace)
    # Tolerances: 2 % of 0.070 is 0.0014, half a digit 0.0005, between papers 0.0042019.
    pulid = cell(found, "PuLID (Flux)")
    assert pulid.measured.mean == pytest.approx(0.072)
    assert pulid.difference == pytest.approx(0.002)
    assert pulid.tolerance == pytest.approx(0.0042019)
    assert pulid.verdict == "agrees"
    assert (pulid.measured.n, pulid.measured.total) == (3, 4)
    # 0.050 against 0.082 is 0.032 off; the interval of three identities is 4.3027 x 0.01 / sqrt(3).
    editid = cell(found, "EditID")
    assert editid.difference == pytest.approx(-0.032)
    assert editid.measured.margin == pytest.approx(4.302653 * 0.01 / math.sqrt(3))
    assert editid.verdict == "differs"
    # 0.095 against 0.096.
    assert cell(found, "EditIDv2").difference == pytest.approx(-0.001)
    assert cell(found, "EditIDv2").verdict == "agrees"
    assert cell(found, "InfiniteYou (aes)").verdict == "not measured"


def test_interval_may_reach_the_tolerance(tmp_path):
    make_run(tmp_path, "editid", [0.070, 0.075, 0.080])
    # 0.075 against 0.082: 0.007 off, 0.0028 beyond the tolerance, margin 0.0124.
    assert cell(found_in(tmp_path), "EditID").verdict == "in interval"


def test_order_of_measured_rows_is_compared_with_the_printed(workspace):
    found = found_in(workspace)
    # Printed 0.070, 0.082, 0.096; measured 0.072, 0.050, 0.095: two of three pairs in order.
    assert found.rank_agreement == {"landmarkdiff": pytest.approx(1 / 3)}
    assert found.measured_ranks == {"PuLID (Flux)": 2.0, "EditID": 3.0, "EditIDv2": 1.0}


def test_another_suite_is_shown_and_not_judged(tmp_path):
    make_run(tmp_path, "warp", [0.08, 0.09], suite="demo")
    found = found_in(tmp_path, "EditIDv2=warp")
    only = cell(found, "EditIDv2")
    assert only.difference == pytest.approx(0.085 - 0.096)
    assert only.verdict == "not comparable"
    assert only.why == "measured on demo, printed on ibench-chineseid-long"
    assert found.rank_agreement == {}
    assert found.measured_numbers()["landmarkdiff"] == {}


def test_another_network_is_shown_and_not_judged(tmp_path):
    foreign = column("facesim@ibench[dlib]", comparable=False)
    make_run(tmp_path, "editid", [0.71, 0.72], columns=(foreign,))
    only = cell(found_in(tmp_path), "EditID", "facesim")
    assert only.difference == pytest.approx(0.001)
    assert only.verdict == "not comparable"
    assert "not the paper's network" in only.why


def test_comparable_column_wins_over_another_network(tmp_path):
    foreign = column("facesim@ibench[dlib]", comparable=False)
    make_run(tmp_path, "editid", [0.71, 0.72], columns=(foreign, FACESIM))
    assert cell(found_in(tmp_path), "EditID", "facesim").measured.column == FACESIM


def test_row_that_lost_all_its_samples_is_not_measured(tmp_path):
    make_run(tmp_path, "editid", ["no_face", "no_face"])
    only = cell(found_in(tmp_path), "EditID")
    assert only.verdict == "not measured"
    assert (only.measured.n, only.measured.total) == (0, 2)


def test_two_runs_for_one_row_are_refused(tmp_path):
    make_run(tmp_path, "editid", [0.7])
    other = make_run(tmp_path / "other", "editid", [0.8])
    other.rename(tmp_path / SUITE / "editid-again")
    with pytest.raises(ValueError, match="could both fill 'EditID'"):
        found_in(tmp_path)


@pytest.mark.parametrize(
    ("row", "error", "named"),
    [
        ("Nobody=pulid-flux", LookupError, "has no row 'Nobody'"),
        ("EditID=nothing", LookupError, "0 runs are called 'nothing'; known: editid"),
        ("EditID", ValueError, "NAME=RUN"),
    ],
)
def test_wrong_rows_are_refused(workspace, row, error, named):
    with pytest.raises(error, match=named):
        found_in(workspace, row)


def test_scale_of_a_column_is_applied():
    table = find_table("editidv2:table1")
    scaled = [
        replace(each, scale=10.0) if each.name == "landmarkdiff" else each for each in table.columns
    ]
    row = dict.fromkeys(AGGREGATE_FRAME, 0) | {
        "suite": SUITE, "label": "x", "run": "x", "column": LANDMARKDIFF.name,
        "fingerprint": LANDMARKDIFF.fingerprint, "mean": 0.0082, "margin": 0.001, "n": 4,
        "total": 4, "reasons": "{}",
    }  # fmt: skip
    aggregates = pd.DataFrame([row]).astype(AGGREGATE_FRAME)
    found = reproduce(
        replace(table, columns=tuple(scaled)), aggregates, [LANDMARKDIFF], {"EditID": "x"}
    )
    assert cell(found, "EditID").measured.mean == pytest.approx(0.082)
    assert cell(found, "EditID").measured.margin == pytest.approx(0.01)


def run_verb(capsys, *arguments):
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    assert verb.run(parser.parse_args([str(argument) for argument in arguments])) == 0
    return capsys.readouterr().out


def test_list_names_every_table(capsys):
    printed = run_verb(capsys)
    for paper, count in {
        "editidv2": 1,
        "flexid": 1,
        "flexip": 3,
        "dynamicid": 4,
        "editedid": 9,
    }.items():
        assert printed.count(f"{paper}:table") == count
    assert max(map(len, printed.splitlines())) <= 80


def test_terminal_shows_printed_measured_difference_and_coverage(capsys, workspace):
    printed = run_verb(capsys, "editidv2", workspace)
    (line,) = [line for line in printed.splitlines() if "landmarkdiff" in line and "0.002" in line]
    assert line.split() == [
        "landmarkdiff", "↑", "0.070", "0.072", "±0.007", "3/4", "+0.002", "0.0042", "agrees",
    ]  # fmt: skip
    assert "Kendall's tau +0.33" in printed
    assert "as printed: 43.157 has three decimals" in printed


def test_terminal_says_what_is_missing_and_the_command(capsys):
    printed = run_verb(capsys, "flexid")
    assert "to measure FlexID (Ours)" in printed
    assert "idbench run --suite ibench-chineseid-long --method flexid --metrics" in printed
    assert "method uno: an environment of its own" in printed


def test_the_run_of_the_base_model_is_asked_for_where_a_metric_needs_it(capsys):
    printed = run_verb(capsys, "editidv2")
    about = printed[printed.index("to measure PuLID (Flux)") : printed.index("to measure EditID\n")]
    made, run = [line for line in about.splitlines() if line.startswith("  idbench ")]
    assert made.split()[1:] == [
        "generate", "--suite", SUITE, "--method", "base:flux-dev", "--device", "cuda",
        "--output", "runs",
    ]  # fmt: skip
    assert f"--base runs/{SUITE}/base-flux-dev-*" in run


@pytest.mark.parametrize("table", [t for t in load_tables().values() if t.measurable])
def test_every_printed_command_is_understood(table, tmp_path):
    # As a shell and the command line would read it.
    for row in table.cells:
        needs = needs_of_row(table, row, tmp_path)
        assert not any("not in this version" in line for line in needs.missing), row
        for command in needs.commands:
            program, name, *words = shlex.split(command)
            assert program == "idbench"
            parser = argparse.ArgumentParser()
            import_module(f"idbench.commands.{name}").add_arguments(parser)
            given = parser.parse_args(words)
            assert given.suite == table.suite
            for method in given.method:
                assert method == "images:DIR" or method_info(method)
            for metric in getattr(given, "metrics", []):
                assert [*resolve([metric]), *resolve_sets([metric])]


@pytest.mark.parametrize("table", ["flexip:table1", "editedid:table8", "dynamicid:table3"])
def test_every_kind_of_table_prints_in_every_style(capsys, table):
    for style in ("terminal", "markdown", "csv", "json"):
        assert run_verb(capsys, table, "--style", style)


def test_json_holds_the_difference(workspace):
    found = found_in(workspace)
    document = json.loads(text.as_json(found))
    (entry,) = [
        entry
        for entry in document["cells"]
        if entry["row"] == "EditID" and entry["column"] == "landmarkdiff"
    ]
    assert entry["difference"] == pytest.approx(-0.032)
    assert entry["verdict"] == "differs"


def test_frame_of_the_fixture_is_what_the_store_gives(workspace):
    frame, _ = load_frame([workspace])
    means = aggregate(frame).set_index("label")["mean"]
    assert means["editid"] == pytest.approx(0.05)


def test_same_run_in_two_workspaces_is_refused(tmp_path):
    make_run(tmp_path / "one", "editid", [0.7])
    make_run(tmp_path / "two", "editid", [0.7])
    with pytest.raises(RunError, match=r"one/.*two/.* are the same run; name one of them"):
        load_frame([tmp_path])


def test_claims_are_checked_with_measured_rows(capsys, workspace):
    from idbench.commands import claims

    parser = argparse.ArgumentParser()
    claims.add_arguments(parser)
    assert claims.run(parser.parse_args(["editidv2", str(workspace)])) == 0
    printed = capsys.readouterr().out
    # Claim 10: landmarkdiff 0.096 (measured 0.095, within 2 %) is above PuLID's (0.072).
    about = printed[printed.index("editidv2-10") : printed.index("editidv2-11")]
    assert "printed numbers: supported" in about
    assert "measured numbers: supported" in about
    assert "measured numbers: not measured" in printed


def test_two_runs_compare_from_the_command_line(capsys, workspace, tmp_path):
    from idbench.commands import compare

    parser = argparse.ArgumentParser()
    compare.add_arguments(parser)
    runs = sorted((workspace / SUITE).iterdir())
    names = {run.name.rpartition("-")[0]: str(run) for run in runs}
    arguments = [names["editid"], names["editidv2"]]
    assert compare.run(parser.parse_args(arguments)) == 0
    printed = capsys.readouterr().out
    assert "+0.045" in printed
    assert "3/3" in printed
    assert compare.run(parser.parse_args([*arguments, "--style", "json"])) == 0
    assert json.loads(capsys.readouterr().out)["differences"][0]["pairs"] == 3
    other = make_run(tmp_path / "other", "editid", [0.1], suite="demo")
    with pytest.raises(ValueError, match="different suites"):
        compare.run(parser.parse_args([arguments[0], str(other)]))


def test_baseline_gate_and_simulation_from_the_command_line(capsys, tmp_path):
    from idbench.commands import baseline, gate

    good = make_run(tmp_path, "good", [0.08 + 0.001 * i for i in range(9)])
    bad = make_run(tmp_path, "bad", [0.02 + 0.001 * i for i in range(9)])
    rules = tmp_path / "gate.yaml"
    rules.write_text(
        "format: idbench.gate/1\nrules:\n  landmarkdiff: {max_drop: 0.01, min_coverage: 0.9}\n"
    )
    kept = tmp_path / "kept.json"

    def call(verb, *arguments):
        parser = argparse.ArgumentParser()
        verb.add_arguments(parser)
        return verb.run(parser.parse_args([str(argument) for argument in arguments]))

    assert call(baseline, "save", good, "-o", kept) == 0
    assert call(baseline, "show", kept) == 0
    assert "landmarkdiff@ibench[mtcnn]" in capsys.readouterr().out
    common = ("--baseline", kept, "--rules", rules)
    assert call(gate, good, *common) == 0
    assert call(gate, bad, *common, "--github", "--junit", tmp_path / "gate.xml") == 1
    assert "::error title=idbench gate%3A landmarkdiff" in capsys.readouterr().out
    assert 'failures="1"' in (tmp_path / "gate.xml").read_text()
    # The same shift twice, one sample per person: no noise, so a drop of 0.02 is always caught.
    noise = ("--noise", good, bad, "--effect", "landmarkdiff=0.02")
    assert call(gate, "simulate", *common, *noise) == 0
    assert "reached" in capsys.readouterr().out
    with pytest.raises(ValueError, match="--rules FILE is needed"):
        call(gate, good, "--baseline", kept)
    with pytest.raises(ValueError, match="--effect takes COLUMN=DROP"):
        call(gate, "simulate", *common, "--effect", "landmarkdiff=-1")
