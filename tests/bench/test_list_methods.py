"""`idbench list methods`, and the verbs that follow it."""

import json

import pytest

from idbench.cli import main


def printed(capsys, *words):
    assert main(["list", "methods", *words]) == 0
    return capsys.readouterr().out


def test_lines_fit_a_terminal(capsys):
    assert max(len(line) for line in printed(capsys).splitlines()) <= 80


def test_an_entry_says_what_a_reader_chooses_by(capsys):
    text = " ".join(printed(capsys, "omg-*").split())
    assert "command recipe; multi; base sdxl; weights: CreativeML OpenRAIL++-M" in text
    assert "rows of papers: dynamicid:table2 OMG-InstantID" in text
    assert "note: it makes a picture, segments the people" in text
    assert "not here: an environment of its own" in text


def test_rows_of_a_table_stand_together(capsys):
    text = " ".join(printed(capsys, "infiniteyou-aes").split())
    assert "rows of papers: editidv2:table1 InfiniteYou (aes)" in text
    text = " ".join(printed(capsys, "dynamicid").split())
    assert "dynamicid:table3 Ours, Ours w/o SAA, Ours w/o IMR;" in text


def test_json_has_every_field(capsys):
    (entry,) = json.loads(printed(capsys, "photomaker-v2", "--json"))
    assert entry["route"] == "native"
    assert entry["rows"] == ["dynamicid:table1:PhotoMaker-v2"]
    assert "PhotoMaker-V2/photomaker-v2.bin" in entry["needs"]


def test_a_program_is_printed(capsys):
    assert main(["method", "program", "uno"]) == 0
    assert 'NAME = "uno"' in capsys.readouterr().out


@pytest.mark.parametrize("name", ["copy", "diffusers:sd15", "command:cat"])
def test_what_has_no_program_is_refused(capsys, name):
    assert main(["method", "program", name]) == 2
    assert "no command recipe; known: bagel" in capsys.readouterr().err


def test_tiny_weights_are_for_recipes(capsys):
    assert main(["method", "check", "pulid-flux", "--tiny"]) == 2
    assert "pulid-flux has no tiny weights" in capsys.readouterr().err


@pytest.mark.slow
def test_a_recipe_is_checked_over_tiny_weights(capsys):
    assert main(["method", "check", "diffusers:sd15", "--tiny"]) == 0
    assert "diffusers:sd15: all checks passed" in capsys.readouterr().out
