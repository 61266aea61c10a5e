import csv
import io
import math

import numpy as np
import pandas as pd
import pytest

from idbench import plots
from idbench.aggregate import AGGREGATE_FRAME
from idbench.cli import main
from idbench.commands.pareto import write_front
from idbench.fronts import choose_axis, find_fronts, points_csv
from idbench.records import SCORE_FRAME, Column, Sample, Score, SetScore
from idbench.store import RunIdentity, RunStore


def column(name, higher=True, axis="preservation", fingerprint="f", details="{}"):
    return Column(
        name=name,
        fingerprint=fingerprint,
        unit="",
        higher_is_better=higher,
        low=0.0,
        high=1.0,
        axis=axis,
        comparable_to_published=False,
        details=details,
    )


KEEP = column("facesim@strict[dlib]")
EDIT = column("landmarkdiff@strict[mtcnn]", axis="editability")
EDIT_IBENCH = column("landmarkdiff@ibench[mtcnn]", axis="editability")
OPEN = column("posediv@strict[x]", higher=None, axis="editability")
COLUMNS = [KEEP, EDIT_IBENCH, EDIT, OPEN]
MEANS = {"copy": (0.95, 0.05), "swap": (0.3, 0.6), "blur": (0.5, 0.04), "void": (None, 0.5)}


def frame():
    rng = np.random.default_rng(0)
    rows = []
    for label, means in MEANS.items():
        for person in range(6):
            for of, mean in zip((KEEP, EDIT), means, strict=True):
                value = float("nan") if mean is None else mean + rng.normal(0, 0.003)
                rows.append(
                    {
                        "label": label,
                        "run": f"{label}-1",
                        "method": label,
                        "suite": "demo",
                        "case_id": f"c{person}",
                        "sample": 0,
                        "identity": f"p{person}",
                        "multiplicity": 1,
                        "column": of.name,
                        "fingerprint": of.fingerprint,
                        "value": value,
                        "reason": "" if mean is not None else "no_face",
                    }
                )
    return pd.DataFrame(rows).astype(SCORE_FRAME)


def the_front():
    (found,) = find_fronts(
        frame(), [choose_axis("facesim", COLUMNS), choose_axis("landmarkdiff", COLUMNS)]
    )
    return found


def test_front_of_a_suite():
    found = the_front()
    assert {run.label: run.on_front for run in found.runs} == {
        "blur": False,
        "copy": True,
        "swap": True,
    }
    assert {run.label: run.probability for run in found.runs}["copy"] == 1.0
    assert found.missing == ("void",)
    assert any("Not comparable with published numbers" in note for note in found.notes)


def test_points_as_csv():
    rows = {row["label"]: row for row in csv.DictReader(io.StringIO(points_csv(the_front())))}
    assert float(rows["copy"]["facesim@strict[dlib] mean"]) == pytest.approx(0.95, abs=0.01)
    assert rows["copy"]["facesim@strict[dlib] n"] == "6"
    assert (rows["copy"]["on_front"], rows["blur"]["on_front"]) == ("true", "false")


def test_axis_without_protocol_is_strict_and_says_so():
    assert choose_axis("landmarkdiff", COLUMNS).column == EDIT
    assert "landmarkdiff@strict[mtcnn]" in choose_axis("landmarkdiff", COLUMNS).title
    assert choose_axis("landmarkdiff@ibench", COLUMNS).column == EDIT_IBENCH


def test_direction_of_an_axis_can_be_said():
    assert choose_axis("posediv", COLUMNS).higher_is_better
    assert choose_axis("posediv", COLUMNS).assumed
    assert not choose_axis("posediv:down", COLUMNS).higher_is_better
    assert not choose_axis("posediv:down", COLUMNS).assumed
    with pytest.raises(LookupError, match="must be up or down, got 'left'"):
        choose_axis("posediv:left", COLUMNS)


def test_axis_of_two_fingerprints_is_refused_with_the_difference():
    twice = [
        column("a@strict[b]", fingerprint="f", details='{"version": 1}'),
        column("a@strict[b]", fingerprint="g", details='{"version": 2}'),
    ]
    with pytest.raises(LookupError, match="2 fingerprints in these runs, which differ in version"):
        choose_axis("a", twice)


def test_plots_are_written_byte_for_byte_the_same(tmp_path):
    first = write_front(the_front(), tmp_path / "one")
    second = write_front(the_front(), tmp_path / "two")
    assert [path.suffix for path in first] == [".png", ".svg", ".csv"]
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()
    assert first[0].read_bytes().startswith(b"\x89PNG")
    assert b"<dc:date>" not in first[1].read_bytes()


def test_hostile_names_are_drawn_as_text(tmp_path):
    points = [
        plots.Point(label="$\\frac{1}{$ <script> & \x07 李", x=0.5, y=0.5),
        plots.Point(label="b", x=0.6, y=0.4),
    ]
    axis = plots.Axis(title="x_1 $y$", higher_is_better=True, low=0, high=1)
    figure = plots.draw_front(points, axis, axis, title="<b>&")
    plots.save(figure, tmp_path / "plot.svg")
    assert b"<script" not in (tmp_path / "plot.svg").read_bytes()


def test_plot_without_points_and_with_one(tmp_path):
    axis = plots.Axis(title="x", higher_is_better=True, low=0, high=1)
    plots.save(plots.draw_front([], axis, axis), tmp_path / "none.png")
    one = [plots.Point(label="one", x=0.5, y=0.5, on_front=True)]
    plots.save(plots.draw_front(one, axis, axis), tmp_path / "one.png")
    with pytest.raises(ValueError, match=r"as .png or .svg, not one.pdf"):
        plots.save(plots.draw_front(one, axis, axis), tmp_path / "one.pdf")


def test_dominated_area_by_hand():
    found = the_front()
    means = {run.label: run.means for run in found.runs}
    # Down to the worst means (facesim of swap, landmarkdiff of blur) swap spans nothing, and the
    # rest is the rectangle of copy.
    width = means["copy"][0] - means["swap"][0]
    height = means["copy"][1] - means["blur"][1]
    assert found.volume.reference == (means["swap"][0], means["blur"][1])
    assert found.volume.value == pytest.approx(width * height)
    assert found.volume.low < found.volume.value < found.volume.high


def test_reference_of_the_area_can_be_given():
    axes = [choose_axis("facesim", COLUMNS), choose_axis("landmarkdiff", COLUMNS)]
    (found,) = find_fronts(frame(), axes, reference=[0.0, 0.0])
    means = {run.label: run.means for run in found.runs}
    swap, copy = means["swap"], means["copy"]
    assert found.volume.value == pytest.approx(swap[0] * swap[1] + (copy[0] - swap[0]) * copy[1])
    with pytest.raises(ValueError, match="one number per axis, 2, got 1"):
        find_fronts(frame(), axes, reference=[0.0])


def test_curves_are_drawn_in_order_with_their_parameter(tmp_path):
    from idbench.curves import Step

    steps = {
        f"{label}-1": Step(curve="c", parameter="sigma", value=value)
        for label, value in (("swap", 3.0), ("copy", 1.0), ("blur", 2.0))
    }
    axes = [choose_axis("facesim", COLUMNS), choose_axis("landmarkdiff", COLUMNS)]
    (found,) = find_fronts(frame(), axes, steps)
    assert [run.label for run in found.runs] == ["copy", "blur", "swap"]
    rows = list(csv.DictReader(io.StringIO(points_csv(found))))
    assert [(row["parameter"], row["value"]) for row in rows] == [
        ("sigma", "1.0"),
        ("sigma", "2.0"),
        ("sigma", "3.0"),
    ]
    write_front(found, tmp_path / "curve")


def test_front_in_three_axes(tmp_path):
    scores = frame()
    third = scores[scores["column"] == KEEP.name].assign(column=OPEN.name, value=0.5)
    axes = [choose_axis(name, COLUMNS) for name in ("facesim", "landmarkdiff", "posediv")]
    (found,) = find_fronts(pd.concat([scores, third]), axes)
    assert len(found.runs[0].means) == 3
    one, two = (write_front(found, tmp_path / name) for name in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


FID = column("fid@ibench[inception]", higher=False, axis="quality")
FIDS = {"copy": 40.0, "swap": 10.0, "blur": 12.0}


def whole_runs():
    rows = [
        dict.fromkeys(AGGREGATE_FRAME, 0)
        | {"suite": "demo", "label": label, "run": f"{label}-1", "column": FID.name,
           "fingerprint": FID.fingerprint, "mean": fid, "se": math.nan, "margin": math.nan,
           "low": math.nan, "high": math.nan, "n": 6, "total": 6, "samples": 6, "reasons": "{}"}
        for label, fid in FIDS.items()
    ]  # fmt: skip
    return pd.DataFrame(rows).astype(AGGREGATE_FRAME)


def test_a_metric_of_whole_runs_can_be_an_axis():
    axes = [choose_axis(name, [*COLUMNS, FID]) for name in ("facesim", "fid")]
    (found,) = find_fronts(frame(), axes, sets=whole_runs())
    # facesim 0.95, 0.5, 0.3 against FID 40, 12, 10, lower is better: nobody is dominated.
    assert {run.label: run.on_front for run in found.runs} == dict.fromkeys(FIDS, True)
    assert {run.label: run.means[1] for run in found.runs} == FIDS
    assert all(run.margins[1] is None and run.margins[0] > 0 for run in found.runs)
    assert all(run.probability == 1.0 for run in found.runs)
    assert "fid@ibench[inception] is one number per run" in " ".join(found.notes)
    # Down to facesim 0.3 (swap) and FID 40 (copy) only the rectangle of blur is left.
    means = {run.label: run.means for run in found.runs}
    area = (means["blur"][0] - means["swap"][0]) * (40.0 - 12.0)
    assert found.volume.value == pytest.approx(area)
    assert found.missing == ("void",)


def test_a_front_of_whole_runs_alone_has_no_probability():
    twice = pd.concat([whole_runs(), whole_runs().assign(column="kid@ibench[inception]")])
    kid = column("kid@ibench[inception]", higher=False, axis="quality")
    axes = [choose_axis(name, [FID, kid]) for name in ("fid", "kid")]
    nothing = frame().iloc[:0]
    (found,) = find_fronts(nothing, axes, sets=twice)
    assert {run.label: run.on_front for run in found.runs} == {
        "copy": False, "swap": True, "blur": False,
    }  # fmt: skip
    assert {run.probability for run in found.runs} == {None}


def test_fid_is_an_axis_on_the_command_line(tmp_path, capsys):
    for label, fid, similarity in (("copy", 40.0, 0.9), ("swap", 10.0, 0.3), ("blur", 50.0, 0.5)):
        identity = RunIdentity(
            label=label,
            method={"name": label, "target": label, "args": {}, "fingerprint": {"m": label}},
            suite={"name": "s", "target": "s", "version": 1, "kind": "single_id", "sha256": "a"},
            seed_policy="hashed",
            size=None,
            environment={},
        )
        with RunStore.create(tmp_path / "runs", identity) as store:
            cases = [f"c{person:016x}" for person in range(6)]
            store.plan(
                (Sample(case_id=case, sample=0, seed=0, status="pending"), f"r{case}", 1, {})
                for case in cases
            )
            store.add_columns([KEEP])
            store.add_scores(
                Score(
                    case_id=case,
                    sample=0,
                    column=KEEP.name,
                    fingerprint=KEEP.fingerprint,
                    value=similarity + 0.01 * place,
                )
                for place, case in enumerate(cases)
            )
            store.add_set_scores(
                [SetScore(column=FID, value=fid, inputs="x", n=6, total=6, samples=6, reasons={})]
            )
    words = ["pareto", str(tmp_path / "runs"), "--x", "facesim", "--y", "fid"]
    assert main([*words, "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    # blur is worse than copy in both.
    assert "  copy, in 100% of resamples" in printed
    assert "  swap, in 100% of resamples" in printed
    assert "  blur" not in printed
    written = io.StringIO((tmp_path / "pareto-s.csv").read_text(encoding="utf-8"))
    rows = {row["label"]: row for row in csv.DictReader(written)}
    assert float(rows["swap"]["fid@ibench[inception] mean"]) == 10.0
    assert rows["blur"]["on_front"] == "false"
    assert (tmp_path / "pareto-s.png").is_file()
