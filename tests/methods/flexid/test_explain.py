"""`idbench method explain flexid PROMPT`, which loads no network."""

import csv

import pytest
from PIL import Image

from idbench.cli import main

# first and last weights of 25 steps by hand: 2 (1 - 1/50) = 1.96 and 0.04 times base and gamma
PLAIN = ("alpha: 0.196 at the first step, 0.004 at the last, mean 0.1",
         "w: 0.04 at the first step, 1.96 at the last, mean 1")  # fmt: skip
EDIT = ("alpha: 0.294 at the first step, 0.006 at the last, mean 0.15",
        "w: 0.028 at the first step, 1.372 at the last, mean 0.7")  # fmt: skip


@pytest.fixture
def explain(tmp_path, flexid_weights, monkeypatch, capsys):
    monkeypatch.setenv("IDBENCH_DATA", str(tmp_path / "data"))

    def run(prompt, *arguments):
        given = ["--output", str(tmp_path / "out"), "--method-args", f"weights={flexid_weights}"]
        assert main(["method", "explain", "flexid", prompt, *given, *arguments]) == 0
        return capsys.readouterr().out.splitlines()

    return run


@pytest.mark.parametrize(
    ("prompt", "words", "weights"),
    [
        ("a portrait in a library", ["  no word of the dictionary", "intent 0 (no edit)"], PLAIN),
        (
            "a man laughing out loud, oil painting",
            [
                "  laughing out loud (expression, laugh out loud): counts",
                "  oil painting (style, oil painting): counts",
                "intent 1 (an edit)",
            ],
            EDIT,
        ),
        (
            "a woman who is not smiling",
            ["  smiling (expression, smile): negated, does not count", "intent 0 (no edit)"],
            PLAIN,
        ),
        (
            "\u4ed6\u6ca1\u6709\u7b11\uff0c\u5728\u5954\u8dd1",
            [
                "  \u7b11 (expression, \u7b11): negated, does not count",
                "  \u5954\u8dd1 (pose, \u5954\u8dd1): counts",
                "intent 1 (an edit)",
            ],
            EDIT,
        ),
    ],
    ids=["plain", "edit", "negated", "chinese"],
)
def test_prompts_are_explained(explain, tmp_path, prompt, words, weights):
    lines = explain(prompt)
    assert lines[0] == f"prompt: {prompt}"
    assert lines[1 : 1 + len(words)] == words
    assert [line for line in lines if line.startswith(("alpha", "w:"))] == list(weights)
    assert "text residual: on, FaceCLIP's tower" in lines
    with (tmp_path / "out" / "weights.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == [str(step) for step in range(1, 26)]
    assert rows[12]["alpha"] == f"{float(weights[0].split()[-1]):.6f}"  # the middle is the mean
    with Image.open(tmp_path / "out" / "schedules.png") as figure:
        colours = figure.convert("RGB").getcolors(maxcolors=1 << 24)
        assert {(255, 127, 14), (31, 119, 180)} <= {colour for _, colour in colours}


def test_graded_intent_and_no_gating_are_explained(explain):
    graded = explain("a man laughing out loud, oil painting", "intent_mode=graded")
    assert "intent 0.667 (graded, categories that count: expression, style)" in graded
    assert "gamma_sem 1.33, gamma_vis 0.8" in graded
    static = explain("a man laughing", "cag=false")
    assert "gating is off: constant weights, the prompt is not read" in static
    assert "w: 1 at the first step, 1 at the last, mean 1" in static
    forced = explain("a man laughing", "force_intent=0", "sip=off")
    assert "intent 0 (forced)" in forced
    assert "text residual: off" in forced
    assert "alpha: 0 at the first step, 0 at the last, mean 0" in forced
