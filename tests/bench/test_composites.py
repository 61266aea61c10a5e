import math
from dataclasses import replace

import pandas as pd
import pytest

from idbench.aggregate import aggregate
from idbench.composites import COMPOSITES, add_composites
from idbench.fronts import choose_axis
from idbench.records import SCORE_FRAME, Column


def column(name, comparable=True):
    return Column(
        name=name,
        fingerprint=f"of {name}"[:16],
        unit="",
        higher_is_better=True,
        low=0.0,
        high=180.0,
        axis="editability",
        comparable_to_published=comparable,
        details="{}",
    )


COLUMNS = [
    column("landmarkdiff@strict[mtcnn]"),
    column("posediv.yaw@strict[dlib68]"),
    column("posediv.pitch@strict[dlib68]"),
    column("posediv.roll@strict[dlib68]", comparable=False),
]
# At the largest printed values every term is 1; at half of them 0.5.
FULL = [0.116, 25.02, 9.641, 12.69]


def frame(rows):
    """Rows are (case, four values or reasons)."""
    return pd.DataFrame(
        [
            {
                "label": "m", "run": "m-1", "method": "m", "suite": "s", "case_id": case,
                "sample": 0, "identity": case, "multiplicity": 1, "column": of.name,
                "fingerprint": of.fingerprint,
                "value": math.nan if isinstance(value, str) else value,
                "reason": value if isinstance(value, str) else "",
            }
            for case, values in rows
            for of, value in zip(COLUMNS, values, strict=True)
        ]
    ).astype(SCORE_FRAME)  # fmt: skip


def test_composite_by_hand():
    scores = frame([("c1", FULL), ("c2", [0.058, 0.0, 0.0, 12.69]), ("c3", [0.1, "no_face", 1, 1])])
    found, columns, notes = add_composites(scores, COLUMNS, ["facesim", "editability:up"])
    (made,) = [c for c in columns if c.name.startswith("editability@")]
    assert made.name == "editability@strict[mtcnn+dlib68]"
    values = found[found["column"] == made.name].set_index("case_id")["value"]
    assert values["c1"] == pytest.approx(1.0)
    # 1/2 x 0.5 + 1/6 x 0 + 1/6 x 0 + 1/6 x 1
    assert values["c2"] == pytest.approx(0.25 + 1 / 6)
    assert math.isnan(values["c3"])
    assert notes == [
        "editability@strict = 0.5 x landmarkdiff@strict[mtcnn] / 0.116 + 0.167 x "
        "posediv.yaw@strict[dlib68] / 25.02 + 0.167 x posediv.pitch@strict[dlib68] / 9.641 + "
        "0.167 x posediv.roll@strict[dlib68] / 12.69."
    ]
    (row,) = aggregate(found[found["column"] == made.name]).to_dict("records")
    assert (row["n"], row["total"], row["reasons"]) == (2, 3, '{"no_face": 1}')
    assert not made.comparable_to_published


def test_composite_is_an_axis_like_any_other():
    _, columns, _ = add_composites(frame([("c1", FULL)]), COLUMNS, ["editability"])
    assert choose_axis("editability", columns).column.name.startswith("editability@strict")


def test_nothing_is_added_unasked():
    scores = frame([("c1", FULL)])
    found, columns, notes = add_composites(scores, COLUMNS, ["posediv.yaw", "facesim"])
    assert found is scores
    assert columns == COLUMNS
    assert notes == []


def test_composite_without_its_terms_names_what_is_missing():
    with pytest.raises(LookupError, match=r"unknown column 'posediv\.yaw@strict'"):
        add_composites(frame([("c1", FULL)]), COLUMNS[:1], ["editability"])


def test_weights_of_a_composite_add_up_to_one():
    for composite in COMPOSITES:
        assert sum(term.weight for term in composite.terms) == pytest.approx(1.0)


def test_fingerprint_changes_with_a_term():
    scores = frame([("c1", FULL)])
    _, one, _ = add_composites(scores, COLUMNS, ["editability"])
    renamed = [*COLUMNS[:3], replace(COLUMNS[3], fingerprint="other")]
    moved = scores.assign(
        fingerprint=scores["fingerprint"].where(scores["column"] != renamed[3].name, "other")
    )
    _, two, _ = add_composites(moved, renamed, ["editability"])
    assert one[-1].fingerprint != two[-1].fingerprint
