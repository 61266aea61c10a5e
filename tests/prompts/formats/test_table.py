"""Tables with a row per image: CSV, JSON lines and Parquet give the same units."""

import json

import pytest

from idbench.prompts.formats.paths import PathRules
from idbench.prompts.formats.table import read, write
from idbench.prompts.importing import assemble, units_of
from idbench.prompts.materialise import suite_files
from idbench.prompts.sources import resolve
from idbench.prompts.strict import ManifestError

ROWS = [
    {
        "image": "out/1.png",
        "reference_0": "a.png",
        "reference_1": "b.png",
        "prompt": 'two "people", 名前',
        "sample": 0,
        "seed": 42,
        "expression_0": "happy",
        "orientation_1": "side",
        "box_0": "[0.1, 0.1, 0.4, 0.9]",
        "box_1": "[0.6, 0.1, 0.9, 0.9]",
        "scene": "beach;night",
    },
    {
        "image": "out/2.png",
        "reference_0": "b.png",
        "reference_1": "a.png",
        "prompt": "two people",
        "sample": 1,
        "seed": 7,
        "without_id": "base/2.png",
    },
]


@pytest.fixture
def folder(picture, tmp_path):
    for name in ("a.png", "b.png", "out/1.png", "out/2.png", "base/2.png"):
        picture(name)
    return tmp_path


def _read(path):
    return read(path, PathRules(folder=path.parent))


def _csv(folder, rows):
    import csv

    path = folder / "units.csv"
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def _jsonl(folder, rows):
    path = folder / "units.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")
    return path


def _parquet(folder, rows):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = pa.Table.from_pylist([{c: row.get(c) for c in columns} for row in rows])
    pq.write_table(table, folder / "units.parquet")
    return folder / "units.parquet"


@pytest.mark.parametrize("make", [_csv, _jsonl, _parquet])
def test_every_form_gives_the_same_cases(folder, make):
    imported = assemble(_read(make(folder, ROWS)))
    assert imported.problems == ()
    assert imported.suite.kind == "multi_id"
    by_prompt = {case.prompt: case for case in imported.suite.cases}
    case = by_prompt['two "people", 名前']
    assert case.tags == {"scene": ("beach", "night")}
    assert [(p.expression, p.orientation, p.box[0]) for p in case.people] == [
        ("happy", None, 0.1),
        (None, "side", 0.6),
    ]
    images = {image.case_id: image for image in imported.images}
    other = images[by_prompt["two people"].case_id]
    assert (other.sample, other.seed, other.base.name) == (1, 7, "2.png")


def test_one_person_needs_no_number(folder):
    row = {"image": "out/1.png", "reference": "a.png", "expression": "sad", "orientation": "up"}
    case = assemble(_read(_jsonl(folder, [row]))).suite.cases[0]
    assert (case.kind, case.pose_axis) == ("single_id", "pitch")
    assert (case.people[0].expression, case.people[0].orientation) == ("sad", "up")


def test_a_category_makes_a_subject(folder):
    row = {"image": "out/1.png", "reference": "a.png", "category": "animal", "subject": "cat"}
    suite = assemble(_read(_jsonl(folder, [row]))).suite
    assert (suite.kind, suite.cases[0].subject) == ("subject", "cat")


def test_round_trip(folder, tmp_path):
    first = assemble(_read(_jsonl(folder, ROWS)))
    files = {
        (source, path): resolve(file, source, tmp_path)
        for (source, path), file in suite_files(first.suite).items()
    }
    path = write(units_of(first.suite, first.images, files), tmp_path / "written")
    second = assemble(_read(path))
    assert [c.case_id for c in second.suite.cases] == [c.case_id for c in first.suite.cases]
    assert [c.tags for c in second.suite.cases] == [c.tags for c in first.suite.cases]
    for one, two in zip(first.images, second.images, strict=True):
        assert (one.sample, one.seed) == (two.sample, two.seed)
        assert one.path.read_bytes() == two.path.read_bytes()
        assert (one.base is None) == (two.base is None)


def test_a_case_id_has_to_be_in_the_suite(folder, small_suite):
    known = small_suite.cases[0].case_id
    rows = [
        {"image": "out/1.png", "case_id": known},
        {"image": "out/2.png", "case_id": "c" + "0" * 16},
    ]
    imported = assemble(_read(_jsonl(folder, rows)), small_suite)
    assert [image.case_id for image in imported.images] == [known]
    assert imported.counts()["unknown ids"] == 1


def test_two_images_of_one_sample_are_refused_not_replaced(folder):
    rows = [
        {"image": "out/1.png", "reference": "a.png", "prompt": "x", "sample": 0},
        {"image": "out/2.png", "reference": "a.png", "prompt": "x", "sample": 0},
    ]
    imported = assemble(_read(_jsonl(folder, rows)))
    assert imported.counts()["refused paths"] == 1
    assert imported.images[0].path.name == "1.png"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "row 1, column 'image': expected a text"),
        ({"image": 3}, "row 1, column 'image'"),
        ({"image": "x", "sample": "many"}, "row 1, column 'sample': expected a whole number"),
        ({"image": "x", "sample": -1}, "row 1, column 'sample'"),
        ({"image": "x", "seed": 1.5}, "row 1, column 'seed'"),
        ({"image": "x", "reference": "a.png", "box": "[1, 2]"}, "row 1, column 'box'"),
        ({"image": "x", "reference": "a.png", "box": "nonsense"}, "column 'box': not JSON"),
        ({"image": "x", "reference": "a.png", "box": [0, 0, 2, 1]}, "row 1, column 'box'"),
    ],
)
def test_a_malformed_value_names_row_and_column(folder, row, message):
    with pytest.raises(ManifestError, match=message):
        _read(_jsonl(folder, [row]))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"", "must name the columns"),
        ("x.csv", b"image,image\n", "each once"),
        ("x.csv", b"picture\nx\n", "with 'image' among"),
        ("x.csv", b"image,prompt\na\n", "line 2: 1 values for 2 columns"),
        ("x.csv", b"image\n\xff\xfe\n", "not CSV in UTF-8"),
        ("x.csv", b'image\n"a\n', "not CSV"),
        ("x.jsonl", b"[1]\n", "line 1: expected an object"),
        ("x.jsonl", b'{"image": "a"}\n{\n', "line 2: not JSON"),
        ("x.parquet", b"PAR1", "cannot be read as Parquet"),
        ("x.xlsx", b"", "a table is .csv, .jsonl or .parquet"),
    ],
)
def test_a_file_that_is_no_table_is_our_own_error(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ManifestError, match=message):
        _read(tmp_path / name)
