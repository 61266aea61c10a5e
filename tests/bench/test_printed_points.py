import argparse

import pytest

from idbench.commands import pareto as verb
from idbench.fronts import FrontAxis
from idbench.paper_tables import find_table
from idbench.printed_points import printed_front, printed_points
from idbench.records import Column

TABLE = find_table("editidv2:table1")


def axis(name):
    column = Column(
        name=name,
        fingerprint="f",
        unit="",
        higher_is_better=True,
        low=-1.0,
        high=1.0,
        axis="preservation",
        comparable_to_published=False,
        details="{}",
    )
    return FrontAxis(column=column, higher_is_better=True)


def test_front_of_the_printed_table_by_hand():
    found = printed_front(TABLE, ["facesim", "landmarkdiff"])
    # (facesim, landmarkdiff): both InfiniteYou rows lie below EditIDv2 (0.659, 0.096).
    assert {run.label for run in found.runs if run.on_front} == {
        "PuLID (SDXL)",
        "PuLID (Flux)",
        "EditID",
        "EditIDv2",
    }
    assert found.missing == ()


def test_rows_without_a_number_are_named():
    found = printed_front(TABLE, ["dino", "landmarkdiff"])
    assert found.missing == ("InfiniteYou (aes)", "InfiniteYou (sim)", "EditIDv2")


def test_lower_is_better_where_the_table_says_so():
    found = printed_front(TABLE, ["fid", "facesim"])
    assert {run.label for run in found.runs if run.on_front} == {
        "PuLID (SDXL)",
        "PuLID (Flux)",
        "EditID",
    }


def test_printed_points_follow_the_measured_axes():
    points = printed_points(
        TABLE, [axis("facesim@strict[dlib]"), axis("landmarkdiff@ibench[mtcnn]")]
    )
    assert {point.label: point.means for point in points}["EditID"] == (0.714, 0.082)
    with pytest.raises(LookupError, match="prints nothing for expr@strict"):
        printed_points(TABLE, [axis("expr@strict[x]"), axis("facesim@strict[dlib]")])


def test_unknown_column_lists_the_known():
    with pytest.raises(LookupError, match="no column 'beauty'; known: fid, aesthetic"):
        printed_front(TABLE, ["beauty", "facesim"])


def test_verb_draws_a_printed_table_alone(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    arguments = ["--published", "editidv2", "--x", "facesim", "--y", "landmarkdiff"]
    for extra in ([], ["--z", "posediv_yaw"]):
        assert verb.run(parser.parse_args([*arguments, *extra, "--output", str(tmp_path)])) == 0
        printed = capsys.readouterr().out
        assert "EditIDv2" in printed
        assert (tmp_path / "pareto-editidv2-table1.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="name runs to draw"):
        verb.run(parser.parse_args(["--x", "a", "--y", "b"]))
