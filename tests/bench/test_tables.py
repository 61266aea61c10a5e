import csv
import io
import itertools
import json
import math
import re

import pandas as pd
import pytest

from idbench.aggregate import AGGREGATE_FRAME
from idbench.escape import display_width
from idbench.evaluate import columns_of
from idbench.metrics.registry import resolve
from idbench.records import Column
from idbench.tables import natural_key, render

STYLES = ["terminal", "markdown", "csv", "latex", "json"]


def column(
    name, *, higher=True, fingerprint="f", low=-1.0, high=1.0, comparable=True, details="{}"
):
    return Column(
        name=name,
        fingerprint=fingerprint,
        unit="cosine" if high == 1.0 else "degrees",
        higher_is_better=higher,
        low=low,
        high=high,
        axis="preservation",
        comparable_to_published=comparable,
        details=details,
    )


FACESIM = column("facesim@strict[dlib]")
FID = column("fid@ibench[inception]", higher=False, low=0.0, high=math.inf)


def aggregates(rows):
    """Aggregates; each row is (label, column, mean, margin, n, total, reasons)."""
    records = []
    for label, of, mean, margin, n, total, reasons in rows:
        records.append(
            {
                "suite": "s",
                "label": label,
                "run": f"{label}-run",
                "column": of.name,
                "fingerprint": of.fingerprint,
                "mean": math.nan if mean is None else mean,
                "se": 0.01,
                "margin": math.nan if margin is None else margin,
                "low": math.nan if margin is None else mean - margin,
                "high": math.nan if margin is None else mean + margin,
                "n": n,
                "total": total,
                "samples": total,
                "identities": 0 if mean is None else 1 if margin is None else 5,
                "reasons": json.dumps(reasons),
            }
        )
    return pd.DataFrame(records, columns=list(AGGREGATE_FRAME)).astype(AGGREGATE_FRAME)


TWO = aggregates(
    [
        ("blur", FACESIM, 0.8124, 0.0312, 8, 8, {}),
        ("copy", FACESIM, 1.0, 0.0, 8, 8, {}),
        ("swap", FACESIM, 0.4, 0.02, 8, 8, {}),
        ("blur", FID, 12.345, 1.0, 8, 8, {}),
        ("copy", FID, 3.2, 0.5, 8, 8, {}),
        ("swap", FID, 3.6, 0.5, 8, 8, {}),
    ]
)


def test_terminal_table_by_hand():
    assert render(TWO, [FACESIM, FID], style="terminal") == (
        "suite s\n"
        "\n"
        "            facesim           fid\n"
        "            @strict       @ibench\n"
        "             [dlib]   [inception]\n"
        "           cosine ↑     degrees ↓\n"
        "─────────────────────────────────\n"
        "copy  1.000 ±0.000*   3.20 ±0.50*\n"
        "blur  0.812 ±0.031+  12.35 ±1.00\n"
        "swap  0.400 ±0.020    3.60 ±0.50+\n"
        "\n"
        "Every number stands on 8/8 samples. * best, + second best; arrows point to\n"
        "  better.\n"
        "95 % intervals, resampling identities (5).\n"
    ).replace("12.35", f"{12.345:.2f}")


def test_markdown_marks_best_and_second():
    text = render(TWO, [FACESIM, FID], style="markdown")
    assert r"| copy | **1.000** \[1.000, 1.000\] | **3.20** \[2.70, 3.70\] |" in text
    assert r"| blur | <ins>0.812</ins> \[0.781, 0.844\] |" in text
    assert r"| swap | 0.400 \[0.380, 0.420\] | <ins>3.60</ins> \[3.10, 4.10\] |" in text


def test_latex_marks_best_and_second():
    text = render(TWO, [FACESIM, FID], style="latex")
    assert r"copy & \textbf{1.000} {\scriptsize $\pm$0.000} & \textbf{3.20}" in text
    assert r"\underline{3.60}" in text
    assert [r"\toprule" in text, r"\midrule" in text, r"\bottomrule" in text] == [True] * 3
    assert text.count("{") == text.count("}")


def test_csv_and_json_hold_unrounded_numbers_and_coverage():
    rows = list(csv.DictReader(io.StringIO(render(TWO, [FACESIM, FID], style="csv"))))
    assert len(rows) == 6
    (blur,) = [row for row in rows if row["label"] == "blur" and row["column"] == FACESIM.name]
    assert (blur["mean"], blur["n"], blur["total"]) == ("0.8124", "8", "8")
    assert (blur["mark"], blur["higher_is_better"]) == ("second", "true")
    document = json.loads(render(TWO, [FACESIM, FID], style="json"))
    assert document["rows"][0]["mean"] == 1.0
    assert {c["name"]: c["high"] for c in document["columns"]} == {
        FACESIM.name: 1.0,
        FID.name: "inf",
    }


def test_equal_printed_numbers_share_the_mark():
    rows = [("a", FACESIM, 0.50001, 0.1, 4, 4, {}), ("b", FACESIM, 0.49999, 0.1, 4, 4, {}),
            ("c", FACESIM, 0.3, 0.1, 4, 4, {})]  # fmt: skip
    text = render(aggregates(rows), [FACESIM], style="markdown")
    assert text.count("**0.500**") == 2
    assert "<ins>0.300</ins>" in text


def test_no_mark_without_a_better_direction_or_a_rival():
    open_ended = column("posediv@strict[x]", higher=None)
    rows = [("a", open_ended, 0.5, 0.1, 4, 4, {}), ("b", open_ended, 0.4, 0.1, 4, 4, {})]
    assert "**0" not in render(aggregates(rows), [open_ended], style="markdown")
    assert "**0" not in render(aggregates(rows[:1]), [FACESIM], style="markdown")


def test_all_equal_numbers_are_not_ranked():
    rows = [("a", FACESIM, 0.5, 0.1, 4, 4, {}), ("b", FACESIM, 0.5, 0.1, 4, 4, {})]
    assert "**0" not in render(aggregates(rows), [FACESIM], style="markdown")


ROW_WISE = [
    ("a", FACESIM, 0.5, 0.1, 4, 4, {}), ("b", FACESIM, 0.4, 0.1, 3, 4, {"no_face": 1}),
    ("a", FID, 5.0, 0.1, 4, 4, {}), ("b", FID, 4.0, 0.1, 3, 4, {"no_face": 1}),
]  # fmt: skip
COLUMN_WISE = [
    ("a", FACESIM, 0.5, 0.1, 3, 4, {"no_face": 1}), ("b", FACESIM, 0.4, 0.1, 3, 4, {"error": 1}),
    ("a", FID, 5.0, 0.1, 4, 4, {}), ("b", FID, 4.0, 0.1, 4, 4, {}),
]  # fmt: skip
CELL_WISE = [
    ("a", FACESIM, 0.5, 0.1, 4, 4, {}), ("b", FACESIM, None, None, 0, 4, {"no_face": 4}),
    ("a", FID, 5.0, 0.1, 4, 4, {}), ("b", FID, 4.0, 0.1, 4, 4, {}),
]  # fmt: skip


def test_coverage_once_per_row():
    text = render(aggregates(ROW_WISE), [FACESIM, FID], style="terminal")
    assert re.search(r"^a +4/4 +0\.500", text, re.MULTILINE)
    assert re.search(r"^b +3/4 +0\.400", text, re.MULTILINE)
    assert text.count("3/4") == 1
    assert "Missing, b: no_face 1 of 4." in text


@pytest.mark.parametrize("rows", [COLUMN_WISE, CELL_WISE])
def test_coverage_again_where_it_changes_from_column_to_column(rows):
    text = render(aggregates(rows), [FACESIM, FID], style="terminal")
    n = {(label, of): f"{count}/{total}" for label, of, _, _, count, total, _ in rows}
    for label in "ab":
        line = next(line for line in text.splitlines() if line.startswith(f"{label} "))
        assert re.findall(r"\d/\d", line) == [n[label, FACESIM], n[label, FID]]


def test_reasons_stand_below_with_their_columns():
    text = render(aggregates(COLUMN_WISE), [FACESIM, FID], style="terminal")
    assert "Missing, a in facesim@strict[dlib]: no_face 1 of 4." in text
    assert "Missing, b in facesim@strict[dlib]: error 1 of 4." in text


def test_missing_mean_is_a_dash_with_its_coverage():
    text = render(aggregates(CELL_WISE), [FACESIM, FID], style="terminal")
    assert re.search(r"^b +0/4 +– ", text, re.MULTILINE)  # noqa: RUF001


def test_coverage_is_repeated_in_every_block():
    table, columns = wide_table()
    text = render(table, columns, style="terminal", width=60)
    blocks = text.split("\n\n")[1:-1]
    assert len(blocks) > 2
    assert all(block.count("n/N") == 1 and block.count("/42") == 12 for block in blocks)


@pytest.mark.parametrize("rows", [ROW_WISE, COLUMN_WISE, CELL_WISE])
@pytest.mark.parametrize("style", STYLES)
def test_every_style_shows_every_coverage(rows, style):
    text = render(aggregates(rows), [FACESIM, FID], style=style)
    for _, _, _, _, n, total, _ in rows:
        shown = {
            "csv": rf",{n},{total},",
            "json": rf'"n": {n},',
        }.get(style, rf"{n}/{total}")
        assert re.search(shown, text)


def test_number_of_one_identity_has_no_interval_and_a_note():
    rows = [("a", FACESIM, 0.5, None, 4, 4, {}), ("b", FACESIM, 0.4, 0.1, 4, 4, {})]
    text = render(aggregates(rows), [FACESIM], style="terminal")
    assert re.search(r"^a  0\.500       \*$", text, re.MULTILINE)
    assert "A number without interval stands on one identity." in text
    alone = render(aggregates(rows[:1]), [FACESIM], style="terminal")
    assert "No intervals: all samples are of one identity." in alone


def test_fingerprints_of_one_name_become_two_columns_with_a_note():
    old = column("facesim@strict[dlib]", fingerprint="aaaaaa11", details='{"version": 1}')
    new = column("facesim@strict[dlib]", fingerprint="aaaaaa22", details='{"version": 2}')
    rows = [("a", old, 0.5, 0.1, 4, 4, {}), ("b", new, 0.4, 0.1, 4, 4, {})]
    text = render(aggregates(rows), [old, new], style="terminal", width=120)
    assert "#aaaaaa11" in text
    assert "#aaaaaa22" in text
    assert "their fingerprints differ in version: 1, not 2." in re.sub(r"\s+", " ", text)
    assert "*" not in text.split("\n\n")[1]  # no rank across fingerprints


def test_scores_that_mean_little_alone_stand_beside_those_of_guessing():
    names = ["expr@strict[resemotenet]", "pose@strict[insightface]"]  # 7 and 4 classes
    columns = [c for metric in resolve(names) for c in columns_of(metric, {})[:1]]
    rows = [("a", entry, 0.5, 0.1, 4, 4, {}) for entry in columns]
    text = render(aggregates(rows), columns, style="terminal")
    guessing = f"The score of guessing: {names[0]} 0.143, {names[1]} 0.250."
    assert guessing in " ".join(text.split())
    assert "guessing" not in render(TWO, [FACESIM, FID], style="terminal")


def test_columns_of_an_embedded_backend_are_said_not_to_compare():
    embedded = column("facesim@strict[dlib]", comparable=False)
    text = render(aggregates([("a", embedded, 0.5, 0.1, 4, 4, {})]), [embedded], style="terminal")
    assert "Not comparable with published numbers" in text
    assert "[dlib]" in text


def test_runs_of_one_label_are_told_apart():
    twice = pd.concat([TWO, TWO.assign(run=TWO["run"] + "2")])
    text = render(twice, [FACESIM], style="markdown")
    assert r"| copy \#copy-run |" in text
    assert r"| copy \#copy-run2 |" in text


def test_rows_sort_by_a_column_or_by_label():
    def labels(**sort):
        lines = render(TWO, [FACESIM, FID], style="csv", **sort).splitlines()[1:]
        return list(dict.fromkeys(line.split(",")[1] for line in lines))

    assert labels() == ["copy", "blur", "swap"]
    assert labels(sort=FID.name) == ["copy", "swap", "blur"]
    assert labels(sort="label") == ["blur", "copy", "swap"]
    with pytest.raises(LookupError, match="cannot sort by 'nope'"):
        labels(sort="nope")


def test_labels_sort_by_their_numbers():
    names = ["blur(sigma=16)", "blur(sigma=2)", "Blur", "copy", "blur(sigma=2.5)"]
    assert sorted(names, key=natural_key) == [
        "Blur", "blur(sigma=2)", "blur(sigma=2.5)", "blur(sigma=16)", "copy",
    ]  # fmt: skip


@pytest.mark.parametrize("style", STYLES)
def test_order_of_aggregates_moves_no_byte(style):
    expected = render(TWO, [FACESIM, FID], style=style)
    for order in itertools.islice(itertools.permutations(range(len(TWO))), 0, 720, 97):
        assert render(TWO.iloc[list(order)], [FACESIM, FID], style=style) == expected


def test_unknown_style_lists_the_known_ones():
    with pytest.raises(LookupError, match="unknown table style 'html'; known: terminal, markdown"):
        render(TWO, [FACESIM], style="html")


def wide_table():
    columns = [column(f"metric{i}.variant@strict[backend{i}]", high=180.0) for i in range(8)]
    rows = [
        (
            f"method {m} with a long name",
            of,
            100.0 + m,
            12.5,
            40 - m % 3,
            42,
            {"no_face": 2 + m % 3},
        )
        for m in range(12)
        for of in columns
    ]
    return aggregates(rows), columns


@pytest.mark.parametrize("width", [60, 80, 120])
def test_terminal_lines_fit(width):
    text = render(*wide_table(), style="terminal", width=width)
    assert max(display_width(line) for line in text.splitlines()) <= width
    assert text.count("100.00 ±12.50") == 8


HOSTILE = "=cmd()|\x1b[2J`x`</td><script>\\input{x}&%$#_^~\n| a | \u202e[l](j:)"


@pytest.mark.parametrize("style", STYLES)
def test_hostile_labels_stay_text(style):
    rows = [(HOSTILE, FACESIM, 0.5, 0.1, 3, 4, {"no_face": 1}), ("b", FACESIM, 0.4, 0.1, 4, 4, {})]
    text = render(aggregates(rows), [FACESIM], style=style)
    assert all(line.isprintable() for line in text.splitlines())
    if style == "markdown":
        table = [line for line in text.splitlines() if line.startswith("|")]
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {4}
        assert "<script" not in text
    if style == "csv":
        (first, _) = csv.DictReader(io.StringIO(text))
        assert first["label"].startswith("'=cmd")
    if style == "latex":
        assert r"\input" not in text
    if style == "json":
        assert json.loads(text)["rows"][0]["label"] == HOSTILE


def test_number_of_a_whole_set_has_no_interval_and_says_so():
    table = pd.concat(
        [
            aggregates([("a", FACESIM, 0.5, 0.1, 4, 4, {}), ("b", FACESIM, 0.4, 0.1, 4, 4, {})]),
            aggregates([("a", FID, 5.0, None, 4, 4, {}), ("b", FID, 6.0, None, 4, 4, {})]).assign(
                identities=0
            ),
        ]
    )
    text = render(table, [FACESIM, FID], style="terminal")
    assert "95 % intervals, resampling identities (5)." in text
    assert "A number of a whole set, such as FID, has no interval." in text
    assert "stands on one identity" not in text
