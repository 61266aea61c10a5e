"""Building by name: frozen where it belongs, counted, with a table for large suites."""

import json
import sys

import pytest

from idbench.prompts.builders.collecting import BuildOptions
from idbench.prompts.building import build_suite
from idbench.prompts.freezing import suite_of, write_cases_table
from idbench.prompts.manifest import case_to_line
from idbench.prompts.suites import load_suite


def test_a_suite_is_frozen_and_found_by_name(make_dreambench, register):
    root = register("dreambench_plus", make_dreambench(150))
    suite, folder = build_suite("dreambench-plus", root, BuildOptions())
    assert folder == root / "suites" / "dreambench-plus" / "1"
    assert load_suite("dreambench-plus", data_root=root).sha256 == suite.sha256
    assert not (folder / "cases.parquet").exists()


def test_a_source_with_more_than_expected_is_not_the_suite(make_dreambench, register):
    root = register("dreambench_plus", make_dreambench(151))
    with pytest.raises(ValueError, match=r"came out with 1359 cases .* expected 1350"):
        build_suite("dreambench-plus", root, BuildOptions())
    with pytest.raises(FileNotFoundError):
        load_suite("dreambench-plus", data_root=root)


def test_an_unknown_suite_and_one_without_builder(tmp_path):
    with pytest.raises(LookupError, match="unknown suite 'x'; known: demo"):
        build_suite("x", tmp_path, BuildOptions())
    with pytest.raises(LookupError, match="idbench import editedid"):
        build_suite("editedid-restore", tmp_path, BuildOptions())


def test_a_large_suite_gets_a_table(make_celeba, register):
    pq = pytest.importorskip("pyarrow.parquet")
    root = register("celeba", make_celeba(560))
    suite, folder = build_suite("dynamicid-single", root, BuildOptions())
    table = pq.read_table(folder / "cases.parquet")
    assert table.schema.metadata[b"cases_jsonl_sha256"].decode() == suite.sha256
    assert table.num_rows == 10_000
    row = {name: table.column(name)[1234].as_py() for name in table.column_names}
    line = json.loads(case_to_line(suite.cases[1234]))
    for name, value in line.items():
        known = row[name] if not isinstance(value, dict | list) else json.loads(row[name])
        assert known == value


def test_no_table_without_pyarrow(tmp_path, make_case, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    suite = suite_of([make_case()], name="example", kind="single_id")
    assert write_cases_table(suite, tmp_path) is None
    assert list(tmp_path.iterdir()) == []
