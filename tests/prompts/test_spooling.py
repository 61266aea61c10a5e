"""The streaming form of a suite is the same suite as the one made in memory."""

from dataclasses import replace

import pytest

from idbench.prompts.freezing import suite_of, write_suite
from idbench.prompts.spooling import spooled_suite
from idbench.prompts.strict import ManifestError
from idbench.prompts.suites import load_suite


@pytest.fixture
def cases(make_case):
    made = [make_case(number) for number in range(30)]
    return [*made, made[3], replace(made[3], multiplicity=4), made[7]]


def test_it_equals_the_suite_made_in_memory(cases, tmp_path):
    spooled = spooled_suite(iter(cases), name="example", kind="single_id")
    memory = suite_of(cases, name="example", kind="single_id")
    assert tuple(spooled.cases) == memory.cases
    assert (spooled.count, spooled.distinct, spooled.sha256) == (
        memory.count,
        memory.distinct,
        memory.sha256,
    )
    assert (memory.count, memory.distinct) == (30 + 1 + 4 + 1, 30)
    for name, suite in (("a", spooled), ("b", memory)):
        write_suite(suite, tmp_path / name)
    assert (tmp_path / "a/cases.jsonl").read_bytes() == (tmp_path / "b/cases.jsonl").read_bytes()
    assert load_suite(tmp_path / "a", data_root=tmp_path).sha256 == memory.sha256


def test_dropped_duplicates_count_once(cases):
    suite = spooled_suite(cases, name="example", kind="single_id", weighted=False)
    assert (suite.count, suite.distinct) == (30, 30)
    assert {case.multiplicity for case in suite.cases} == {1}


def test_cases_are_found_by_id(cases):
    suite = spooled_suite(cases, name="example", kind="single_id")
    assert suite.case(cases[5].case_id) == cases[5]


def test_an_empty_suite(tmp_path):
    suite = spooled_suite([], name="example", kind="single_id")
    assert (suite.count, tuple(suite.cases)) == (0, ())


def test_a_wrong_id_is_refused(make_case):
    with pytest.raises(ManifestError, match="should have the id"):
        spooled_suite([make_case(suite="other")], name="example", kind="single_id")


def test_the_temporary_files_go_with_the_suite(cases, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    suite = spooled_suite(cases, name="example", kind="single_id")
    assert len(list(tmp_path.iterdir())) == 1
    del suite
    assert list(tmp_path.iterdir()) == []
