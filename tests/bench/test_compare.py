import csv
import io
import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from idbench.compare import compare, holm
from idbench.comparison_text import render_comparison
from idbench.intervals import p_value
from idbench.records import SCORE_FRAME, Column


def column(name, higher=True, fingerprint="f", details="{}"):
    return Column(
        name=name,
        fingerprint=fingerprint,
        unit="",
        higher_is_better=higher,
        low=-1.0,
        high=1.0,
        axis="preservation",
        comparable_to_published=True,
        details=details,
    )


FACESIM = column("facesim@strict[dlib]")
FID = column("lpips@strict[x]", higher=False)


def scores(label, rows, of=FACESIM, suite="s"):
    """Scores of one run; rows are (identity, case, multiplicity, value or reason, tags)."""
    return pd.DataFrame(
        [
            {
                "label": label,
                "run": f"{label}-1",
                "method": label,
                "suite": suite,
                "case_id": case,
                "sample": 0,
                "identity": identity,
                "multiplicity": multiplicity,
                "column": of.name,
                "fingerprint": of.fingerprint,
                "value": math.nan if isinstance(value, str) else value,
                "reason": value if isinstance(value, str) else "",
                "tags": json.dumps(tags),
            }
            for identity, case, multiplicity, value, tags in rows
        ]
    ).astype({**SCORE_FRAME, "tags": "str"})


FIRST = [
    ("anna", "c1", 1, 0.50, {"style": ["photo"]}),
    ("anna", "c2", 2, 0.60, {"style": ["anime"]}),
    ("bert", "c3", 1, 0.70, {"style": ["photo"]}),
    ("bert", "c4", 1, "no_face", {"style": ["photo"]}),
    ("cleo", "c5", 1, 0.40, {"style": ["photo"]}),
]
SECOND = [
    ("anna", "c1", 1, 0.60, {"style": ["photo"]}),
    ("anna", "c2", 2, 0.65, {"style": ["anime"]}),
    ("bert", "c3", 1, 0.72, {"style": ["photo"]}),
    ("bert", "c4", 1, 0.10, {"style": ["photo"]}),
    ("cleo", "c5", 1, "no_face", {"style": ["photo"]}),
]


def test_paired_difference_by_hand():
    found = compare(scores("a", FIRST), scores("b", SECOND), [FACESIM])
    (only,) = found.differences
    # Pairs c1 (+0.10), c2 (+0.05, twice), c3 (+0.02): (0.10 + 0.10 + 0.02) / 4 = 0.055.
    assert only.difference.mean == pytest.approx(0.055)
    assert only.first_mean == pytest.approx((0.5 + 1.2 + 0.7) / 4)
    assert only.second_mean == pytest.approx((0.6 + 1.3 + 0.72) / 4)
    assert (only.pairs, only.total, only.only_first, only.only_second) == (4, 6, 1, 1)
    # Identities anna (0.20 over 3) and bert (0.02 over 1): residuals +-0.035 around 0.055,
    # standard error sqrt(2 * 2 * 0.035**2) / 4 = 0.0175, t with 1 degree of freedom.
    assert only.difference.se == pytest.approx(0.0175)
    assert only.p == pytest.approx(2 * stats.t(1).sf(0.055 / 0.0175))
    assert only.verdict == "no difference shown"


def test_changed_cases_come_largest_first():
    (only,) = compare(scores("a", FIRST), scores("b", SECOND), [FACESIM]).differences
    assert [(c.case_id, round(c.difference, 2)) for c in only.changes] == [
        ("c1", 0.1),
        ("c2", 0.05),
        ("c3", 0.02),
    ]


def test_breakdown_by_tag():
    found = compare(scores("a", FIRST), scores("b", SECOND), [FACESIM], tags=["style"])
    parts = {each.tag: each for each in found.by_tag}
    assert parts["style=anime"].difference.mean == pytest.approx(0.05)
    assert parts["style=photo"].difference.mean == pytest.approx(0.06)
    assert parts["style=photo"].pairs == 2


def many(shift, of=FACESIM, label="a", spread=0.01):
    rng = np.random.default_rng(5)
    return scores(
        label,
        [
            (f"p{person}", f"c{person}-{prompt}", 1, 0.5 + shift + rng.normal(0, spread), {})
            for person in range(12)
            for prompt in range(4)
        ],
        of,
    )


def test_direction_decides_what_is_better():
    first = pd.concat([many(0.0), many(0.0, FID)])
    rng = np.random.default_rng(1)
    second = first.assign(
        label="b", run="b-1", value=first["value"] + 0.1 + rng.normal(0, 0.02, len(first))
    )
    verdicts = {
        d.column.name: d.verdict for d in compare(first, second, [FACESIM, FID]).differences
    }
    assert verdicts == {FACESIM.name: "better", FID.name: "worse"}
    open_ended = column("x@strict[y]", higher=None)
    one, two = many(0.0, open_ended), many(0.1, open_ended, "b", spread=0.02)
    assert compare(one, two, [open_ended]).differences[0].verdict == "different"


def test_holm_by_hand():
    (base,) = compare(many(0.0), many(0.0, label="b"), [FACESIM]).differences
    from dataclasses import replace

    found = holm([replace(base, p=p) for p in (0.04, 0.01, 0.03, 0.9)])
    # Sorted 0.01 x 4, 0.03 x 3, 0.04 x 2 (raised to the one before), 0.9.
    assert [round(d.adjusted_p, 10) for d in found] == [0.09, 0.04, 0.09, 0.9]


def test_equal_runs_show_no_difference():
    (only,) = compare(many(0.0), many(0.0, label="b"), [FACESIM]).differences
    assert only.difference.mean == 0.0
    assert only.difference.margin == 0.0
    assert only.p == 1.0
    assert only.changes == ()


def test_fingerprints_that_differ_are_not_compared():
    old = column("a@strict[b]", fingerprint="f", details='{"version": 1}')
    new = column("a@strict[b]", fingerprint="g", details='{"version": 2}')
    first = pd.concat([many(0.0), many(0.0, old)])
    second = pd.concat([many(0.1, label="b"), many(0.1, new, "b")])
    found = compare(first, second, [FACESIM, old, new])
    assert [d.column for d in found.differences] == [FACESIM]
    assert found.notes == (
        "a@strict[b] is not compared: its fingerprints differ in version: 1, not 2.",
    )
    with pytest.raises(LookupError, match="share no column"):
        compare(many(0.0, old), many(0.0, new, "b"), [old, new])


def test_different_suites_are_refused():
    other = scores("b", SECOND, suite="other")
    with pytest.raises(ValueError, match="different suites have no cases in common: other and s"):
        compare(scores("a", FIRST), other, [FACESIM])


def test_more_than_one_run_on_a_side_is_refused():
    both = pd.concat([many(0.0), many(0.0, label="b")])
    with pytest.raises(ValueError, match="one run on each side, got 2"):
        compare(both, many(0.0), [FACESIM])


def test_order_of_rows_changes_nothing():
    first, second = many(0.0), many(0.05, label="b")
    expected = compare(first, second, [FACESIM])
    shuffled = compare(first.sample(frac=1, random_state=1), second[::-1], [FACESIM])
    assert shuffled == expected


def test_false_alarms_of_p_values_stay_at_their_level():
    rng = np.random.default_rng(2)
    small = 0
    for _ in range(1500):
        person = rng.normal(0, 1, 10)
        sums = 6 * person + rng.normal(0, 2, 10) * math.sqrt(6)
        small += p_value(sums, np.full(10, 6.0)) < 0.05
    # Binomial noise at 5 % of 1,500 is 0.56 points.
    assert 0.03 < small / 1500 < 0.07


def test_p_agrees_with_the_interval():
    rng = np.random.default_rng(3)
    from idbench.intervals import mean_interval

    for _ in range(200):
        sums, weights = rng.normal(0.4, 1, 9), rng.integers(1, 4, 9).astype(float)
        found = mean_interval(sums, weights)
        excludes_zero = abs(found.mean) > found.margin
        assert (p_value(sums, weights) < 0.05) == excludes_zero


@pytest.mark.parametrize("style", ["terminal", "markdown", "csv", "json"])
def test_styles_show_the_difference_and_its_coverage(style):
    found = compare(scores("a|=x", FIRST), scores("b\x1b[0m", SECOND), [FACESIM], tags=None)
    text = render_comparison(
        found, style=style, locate=lambda case, sample: [f"{case}/{sample}", "x"]
    )
    assert all(line.isprintable() for line in text.splitlines())
    if style in ("terminal", "markdown"):
        assert "+0.055" in text
        assert "4/6" in text
        assert "1 samples have a value in the first run alone" in text.replace("\n  ", " ")
    if style == "csv":
        row = next(csv.DictReader(io.StringIO(text)))
        assert (row["pairs"], row["total"], row["verdict"]) == ("4", "6", "no difference shown")
        assert float(row["difference"]) == pytest.approx(0.055)
    if style == "json":
        assert json.loads(text)["differences"][0]["pairs"] == 4


def test_terminal_text_fits_80_columns():
    found = compare(scores("a", FIRST), scores("b", SECOND), [FACESIM], tags=None)
    text = render_comparison(found, style="terminal")
    assert max(map(len, text.splitlines())) <= 80
