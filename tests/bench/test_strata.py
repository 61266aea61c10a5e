"""Splitting scores by a tag loses nothing and invents nothing."""

import json

import pandas as pd
import pytest

from idbench.strata import stratify, tag_names


@pytest.fixture
def frame() -> pd.DataFrame:
    tags = [{"level": ["easy"]}, {"level": ["hard", "easy"]}, {"other": ["x"]}, {"level": []}]
    return pd.DataFrame(
        {
            "suite": "s",
            "case_id": [f"c{n}" for n in range(4)],
            "value": [1.0, 2.0, 3.0, float("nan")],
            "tags": [json.dumps(entry) for entry in tags],
        }
    )


def test_every_value_is_a_table_and_the_rest_is_kept(frame: pd.DataFrame) -> None:
    split = stratify(frame, "level")
    found = {name: list(part["case_id"]) for name, part in split.groupby("suite")}
    assert found == {
        "s, level = (none)": ["c2", "c3"],
        "s, level = easy": ["c0", "c1"],
        "s, level = hard": ["c1"],
    }
    assert list(split.columns) == list(frame.columns)


def test_names_and_unknown_ones(frame: pd.DataFrame) -> None:
    assert tag_names(frame) == ["level", "other"]
    with pytest.raises(LookupError, match="no sample has the tag 'x'; known: level, other"):
        stratify(frame, "x")
