import math

import numpy as np
import pandas as pd
import pytest

from idbench.aggregate import AGGREGATE_FRAME, aggregate, reason_counts
from idbench.records import SCORE_FRAME


def frame(rows):
    """A score frame; each row is (run, identity, case, multiplicity, value or reason)."""
    return pd.DataFrame(
        [
            {
                "label": run,
                "run": f"{run}-0",
                "method": run,
                "suite": "s",
                "case_id": case,
                "sample": 0,
                "identity": identity,
                "multiplicity": multiplicity,
                "column": "facesim@strict[dlib]",
                "fingerprint": "f",
                "value": math.nan if isinstance(value, str) else value,
                "reason": value if isinstance(value, str) else "",
            }
            for run, identity, case, multiplicity, value in rows
        ]
    ).astype(SCORE_FRAME)


ROWS = [
    ("m", "anna", "c1", 1, 0.9),
    ("m", "anna", "c2", 2, 0.6),
    ("m", "bert", "c3", 1, 0.5),
    ("m", "bert", "c4", 1, "no_face"),
    ("m", "cleo", "c5", 3, "no_face"),
    ("m", "dora", "c6", 1, "error"),
]


def test_mean_coverage_and_reasons_by_hand():
    (row,) = aggregate(frame(ROWS)).to_dict("records")
    # Weighted by multiplicity: (0.9 + 2 * 0.6 + 0.5) / 4 = 0.65; 4 of 9 have a value.
    assert row["mean"] == pytest.approx(0.65)
    assert (row["n"], row["total"], row["samples"], row["identities"]) == (4, 9, 6, 2)
    assert reason_counts(row["reasons"]) == {"error": 1, "no_face": 4}
    # Identities anna (sum 2.1, weight 3) and bert (0.5, 1) around 0.65: residuals +0.15 and -0.15,
    # standard error sqrt(2 * 0.045) / 4 = 0.075, t with 1 degree of freedom 12.7062.
    assert row["se"] == pytest.approx(0.075)
    assert row["margin"] == pytest.approx(0.075 * 12.7062, rel=1e-5)
    assert row["high"] - row["mean"] == pytest.approx(row["margin"])


def test_mean_over_nothing_is_missing():
    (row,) = aggregate(frame([("m", "anna", "c1", 1, "no_face")])).to_dict("records")
    assert math.isnan(row["mean"])
    assert (row["n"], row["total"], row["identities"]) == (0, 1, 0)


def test_one_identity_has_no_interval():
    (row,) = aggregate(frame(ROWS[:2])).to_dict("records")
    assert row["mean"] == pytest.approx(0.7)
    assert math.isnan(row["low"])
    assert math.isnan(row["margin"])


def test_value_that_is_not_finite_counts_as_missing():
    scores = frame(ROWS[:3])
    scores.loc[0, "value"] = math.inf
    (row,) = aggregate(scores).to_dict("records")
    assert row["n"] == 3
    assert reason_counts(row["reasons"]) == {"unknown": 1}


def many_rows():
    rng = np.random.default_rng(0)
    return frame(
        [
            (run, f"p{person:02d}", f"c{person:02d}{prompt:02d}", 1 + prompt % 2, rng.normal())
            for run in ("a", "b")
            for person in range(9)
            for prompt in range(7)
        ]
    )


def test_order_of_rows_moves_no_bit():
    scores = many_rows()
    expected = aggregate(scores)
    for seed in range(5):
        shuffled = scores.sample(frac=1.0, random_state=seed).reset_index(drop=True)
        pd.testing.assert_frame_equal(aggregate(shuffled), expected, check_exact=True)


def test_other_runs_in_the_frame_change_nothing():
    scores = many_rows()
    alone = aggregate(scores[scores["run"] == "b-0"])
    together = aggregate(scores)
    pd.testing.assert_frame_equal(
        alone, together[together["run"] == "b-0"].reset_index(drop=True), check_exact=True
    )


def test_fingerprints_of_one_name_are_kept_apart():
    scores = frame(ROWS[:3])
    scores.loc[2, "fingerprint"] = "g"
    assert aggregate(scores)["fingerprint"].tolist() == ["f", "g"]


def test_a_sample_that_occurs_twice_is_refused():
    scores = frame([ROWS[0], ROWS[0]])
    with pytest.raises(ValueError, match=r"case c1 sample 0 of run m-0 has two rows"):
        aggregate(scores)


def test_a_frame_without_a_column_is_refused():
    with pytest.raises(ValueError, match="multiplicity"):
        aggregate(frame(ROWS).drop(columns="multiplicity"))


def test_empty_frame_has_no_rows_and_all_columns():
    found = aggregate(frame(ROWS).iloc[:0])
    assert len(found) == 0
    assert list(found.columns) == list(AGGREGATE_FRAME)
