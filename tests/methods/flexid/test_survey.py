"""How often the dictionary hits on long prompts, and what graded intent changes there."""

import csv
import json
from importlib.resources import files
from pathlib import Path

import pytest

from idbench.cli import main
from idbench.methods.flexid.method import FlexID
from idbench.methods.flexid.survey import survey

README = Path(__file__).parents[3] / "methods" / "flexid" / "README.md"
LONG_PROMPTS = files("idbench.prompts").joinpath("data/vbench_prompts.csv")


@pytest.fixture(scope="module")
def long_prompts():
    """IBench's two lists of long prompts, and those of a suite here, by name."""
    cases = files("idbench.prompts").joinpath("tiny-long/cases.jsonl").read_text(encoding="utf-8")
    lists = {"tiny-long": [json.loads(line)["prompt"] for line in cases.splitlines()]}
    for row in csv.DictReader(LONG_PROMPTS.read_text(encoding="utf-8").splitlines()):
        lists.setdefault(row["list"], []).append(row["prompt"])
    return lists


def test_the_hit_rates_on_long_prompts_are_those_of_the_readme(long_prompts):
    readme = README.read_text(encoding="utf-8")
    for name, prompts in long_prompts.items():
        found = survey(FlexID(), prompts)
        hits = round(sum(found.values["binary"]))
        assert f"| `{name}` | {len(prompts)} | {hits} ({100 * found.hit_rate:.0f} %) |" in readme
        thirds = [round(3 * value) for value in found.values["graded"]]
        counts = [thirds.count(level) for level in range(4)]
        binary = [hits, len(prompts) - hits]
        alike = [f"{100 * max(c) / len(prompts):.0f} %" for c in (binary, counts)]
        assert f"| {' | '.join(map(str, counts))} | {' | '.join(alike)} |" in readme


def test_graded_intent_tells_apart_long_prompts_that_binary_intent_does_not(long_prompts):
    found = survey(FlexID(), long_prompts["human_action_longer"])
    # the rate that the specification measured
    assert sum(found.values["binary"]) == 49
    edits = [g for b, g in zip(found.values["binary"], found.values["graded"], strict=True) if b]
    assert len(set(edits)) > 1
    assert all(0 < value <= 1 for value in edits)
    assert all(g <= b for b, g in zip(found.values["binary"], found.values["graded"], strict=True))


def test_a_file_of_prompts_is_surveyed(tmp_path, capsys):
    path = tmp_path / "prompts.txt"
    path.write_text("a man\n\na man smiling\nnot smiling\na man smiling, running, oil painting\n")
    assert main(["method", "survey", "flexid", "--prompts", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 prompts, dictionary hits 50 % (2); in 1 all hits are negated"
    assert lines[1] == "categories: expression 2, pose 1, style 1, camera 0"
    table = {line.split()[0]: line.split()[1:] for line in lines[3:6]}
    # intents 0, 0, 1, 1: means 1 + 0.5 / 2 and 1 - 0.3 / 2
    assert table["binary"] == ["2", "0", "0", "2", "1.250", "0.850", "50", "%"]
    # intents 0, 0, 1/3, 1: mean 1/3
    assert table["graded"] == ["2", "1", "0", "1", "1.167", "0.900", "50", "%"]


def test_what_cannot_be_surveyed_says_so(tmp_path, capsys):
    (tmp_path / "none.txt").write_text("\n")
    assert main(["method", "survey", "flexid", "--prompts", str(tmp_path / "none.txt")]) == 2
    assert "there are no prompts to survey" in capsys.readouterr().err
    assert main(["method", "survey", "blur"]) == 2
    assert "blur cannot be surveyed; known: flexid" in capsys.readouterr().err
