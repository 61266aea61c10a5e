"""Reading and freezing suites: exact, sorted, counted, hashed."""

import hashlib
import pickle
import re

import pytest
import yaml

from idbench.prompts.freezing import suite_of, write_suite
from idbench.prompts.strict import ManifestError
from idbench.prompts.suites import list_suites, load_suite


def test_round_trip_keeps_everything(tmp_path, small_suite):
    write_suite(small_suite, tmp_path)
    found = load_suite(tmp_path, data_root=tmp_path)
    assert tuple(found.cases) == small_suite.cases
    assert found.sha256 == hashlib.sha256((tmp_path / "cases.jsonl").read_bytes()).hexdigest()
    for name in ("name", "version", "kind", "count", "distinct", "samples_per_case", "notes"):
        assert getattr(found, name) == getattr(small_suite, name)
    assert found.units == 10


def test_freezing_twice_gives_the_same_bytes(tmp_path, make_case):
    cases = [make_case(number) for number in range(20)]
    for folder, order in (("a", cases), ("b", cases[::-1])):
        write_suite(suite_of(order, name="example", kind="single_id"), tmp_path / folder)
    for name in ("suite.yaml", "cases.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_equal_cases_are_merged_and_counted(make_case):
    suite = suite_of([make_case(1), make_case(2), make_case(1)], name="example", kind="single_id")
    assert (suite.count, suite.distinct) == (3, 2)
    merged = next(case for case in suite.cases if case.multiplicity == 2)
    assert [row.row for row in merged.source_rows] == [1, 1]


def test_two_different_cases_with_one_id_abort(make_case):
    from dataclasses import replace

    first = make_case(1)
    second = replace(make_case(2), case_id=first.case_id)
    with pytest.raises(ManifestError, match=f"two different cases have the id {first.case_id}"):
        suite_of([first, second], name="example", kind="single_id")


def test_a_case_of_another_suite_is_refused(make_case):
    with pytest.raises(ManifestError, match="should have the id"):
        suite_of([make_case(suite="other")], name="example", kind="single_id")


def test_cases_are_found_by_position_slice_and_id(tmp_path, small_suite):
    write_suite(small_suite, tmp_path)
    found = load_suite(tmp_path / "suite.yaml", data_root=tmp_path)
    assert found.cases[2] == small_suite.cases[2]
    assert found.cases[-1] == small_suite.cases[-1]
    assert found.cases[1:3] == small_suite.cases[1:3]
    for suite in (found, small_suite):
        for case in small_suite.cases:
            assert suite.case(case.case_id) == case
        for absent in ("c" + "0" * 16, "c" + "f" * 16, "nonsense"):
            with pytest.raises(LookupError, match="suite example has no case"):
                suite.case(absent)
    with pytest.raises(IndexError):
        found.cases[5]


def test_a_loaded_suite_can_be_sent_to_a_worker(tmp_path, small_suite):
    write_suite(small_suite, tmp_path)
    found = pickle.loads(pickle.dumps(load_suite(tmp_path, data_root=tmp_path)))
    assert tuple(found.cases) == small_suite.cases


def _rewrite(folder, change):
    lines = (folder / "cases.jsonl").read_text().splitlines(keepends=True)
    (folder / "cases.jsonl").write_text("".join(change(lines)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [lines[0], *lines], r"line 2, key 'case_id': c\w+ occurs twice"),
        (lambda lines: lines[::-1], r"line 2, key 'case_id': not sorted"),
        (lambda lines: lines[:-1], r"4 cases that count 4, but the header states 5"),
        (lambda lines: [*lines[:-1], lines[-1][:-1]], r"line 5: .*truncated"),
        (lambda lines: [*lines[:-1], lines[-1][:50]], r"line 5: .*truncated"),
        (lambda lines: [lines[0], "\n", *lines[1:]], r"line 2: not JSON"),
        (
            lambda lines: [lines[0].replace('"alias":"', '"alias":"x'), *lines[1:]],
            r"cases.jsonl: sha256 \w+, but the header states",
        ),
        (
            lambda lines: [lines[0].replace('"happy"', '"sad"'), *lines[1:]],
            r"line 1, key 'case_id': c\w+, but the content has the id c",
        ),
        (
            lambda lines: [lines[0].replace("single_id", "multi_id"), *lines[1:]],
            r"line 1",
        ),
    ],
)
def test_a_changed_case_file_is_refused_by_line(tmp_path, small_suite, change, message):
    write_suite(small_suite, tmp_path)
    _rewrite(tmp_path, change)
    with pytest.raises(ManifestError, match=message):
        load_suite(tmp_path, data_root=tmp_path)


def test_ten_thousand_cases_with_one_bad_line_name_that_line(tmp_path, make_case):
    suite = suite_of(map(make_case, range(10_000)), name="example", kind="single_id")
    write_suite(suite, tmp_path)

    def break_one(lines):
        lines[7_654] = lines[7_654].replace('"prompt":', '"promt":')
        return lines

    _rewrite(tmp_path, break_one)
    with pytest.raises(ManifestError, match=r"line 7655, key 'prompt': missing"):
        load_suite(tmp_path, data_root=tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", "idbench.suite/2", "key 'format': expected idbench.suite/1"),
        ("name", "../x", "key 'name'"),
        ("version", "1", "key 'version'"),
        ("seed_policy", "random", "key 'seed_policy'"),
        ("without_id", "maybe", "key 'without_id'"),
        ("metrics", "fid", "key 'metrics': expected a list"),
        ("metrics", [1], "key 'metrics': expected a list of strings"),
        ("expected", {"references": "five"}, "key 'expected'"),
        ("sources", [{"name": "x", "url": "y"}], r"sources\[0\]: unknown key 'url'"),
        ("colour", 1, "unknown key 'colour'"),
    ],
)
def test_a_broken_header_names_file_and_key(tmp_path, small_suite, key, value, message):
    write_suite(small_suite, tmp_path)
    header = yaml.safe_load((tmp_path / "suite.yaml").read_text())
    header[key] = value
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(header))
    with pytest.raises(ManifestError, match=message) as caught:
        load_suite(tmp_path, data_root=tmp_path)
    assert "suite.yaml" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "- a", "name: [", "a: 1\na: 2\n", "1: 2", "? [a]\n: b", "!!python/object:os.x {}", "\0"],
)
def test_a_header_that_is_no_header_is_our_own_error(tmp_path, small_suite, text):
    write_suite(small_suite, tmp_path)
    (tmp_path / "suite.yaml").write_text(text)
    with pytest.raises(ManifestError, match=re.escape(str(tmp_path / "suite.yaml"))):
        load_suite(tmp_path, data_root=tmp_path)


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(LookupError, match=r"unknown suite 'tiny-singel'; known: demo, tiny-single"):
        load_suite("tiny-singel", data_root=tmp_path)


def test_a_name_cannot_lead_out_of_the_data_folder(tmp_path):
    with pytest.raises(LookupError, match="unknown suite"):
        load_suite("..", data_root=tmp_path)


def test_the_newest_built_version_is_loaded_by_name(tmp_path, make_case):
    for version in (2, 10):
        folder = tmp_path / "suites" / "mine" / str(version)
        write_suite(suite_of([], name="mine", version=version, kind="single_id"), folder)
    assert load_suite("mine", data_root=tmp_path).version == 10


def test_bundled_suites_have_the_counts_of_the_table(tmp_path):
    bundled = [info for info in list_suites() if info.bundled]
    assert {info.name for info in bundled} >= {
        "demo",
        "tiny-single",
        "tiny-multi",
        "tiny-subject",
        "tiny-edit",
    }
    for info in bundled:
        suite = load_suite(info.name, data_root=tmp_path)
        assert (suite.count, suite.distinct) == (info.cases, info.distinct)
        assert (suite.kind, suite.version) == (info.kind, info.version)
        assert suite.samples_per_case == info.samples


@pytest.mark.parametrize(
    ("name", "count"),
    [("tiny-single", 18), ("tiny-multi", 6), ("tiny-subject", 36), ("tiny-edit", 6), ("demo", 21)],
)
def test_counts_of_the_embedded_suites(tmp_path, name, count):
    assert len(load_suite(name, data_root=tmp_path).cases) == count
