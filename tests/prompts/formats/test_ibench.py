"""The datas JSON of IBench: read, assembled, written, read again."""

import json
import os
import unicodedata
from collections import Counter
from dataclasses import replace

import pytest

from idbench.prompts.formats.ibench import read, write
from idbench.prompts.formats.paths import PathRules
from idbench.prompts.freezing import suite_of, write_suite
from idbench.prompts.importing import assemble, units_of
from idbench.prompts.materialise import suite_files
from idbench.prompts.sources import resolve
from idbench.prompts.strict import ManifestError
from idbench.prompts.suites import read_suite


def _row(num, identity, prompt, image, base=None, **extra):
    row = {
        "num": num,
        "id": identity,
        "prompt": prompt,
        "prompt_attr": ["long"],
        "prompt_style": ["human_longer"],
        "imagewithid": image,
    }
    if base:
        row["imagewithoutid"] = base
    return row | extra


@pytest.fixture
def write_list(tmp_path):
    def write(rows, **document):
        path = tmp_path / "datas.json"
        content = {"datas": rows, "tags": {"category": "imageid"}} | document
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        return path

    return write


def _read(path, **rules):
    return read(path, PathRules(folder=path.parent, **rules))


def test_rows_become_cases_with_images(picture, write_list):
    picture("ids/R (2).jpg")
    picture("with/多重.png")
    picture("without/0.png")
    path = write_list([_row(0, "ids/R (2).jpg", "A letter.", "with/多重.png", "without/0.png")])
    imported = assemble(_read(path))
    assert imported.problems == ()
    case = imported.suite.cases[0]
    assert (case.prompt, case.kind, imported.suite.name) == ("A letter.", "single_id", "adhoc")
    assert case.tags == {"prompt_attr": ("long",), "prompt_style": ("human_longer",)}
    assert case.source_rows[0].row == 0
    image = imported.images[0]
    assert (image.path.name, image.base.name, image.sample) == ("多重.png", "0.png", 0)


def test_repeated_rows_are_weights_and_other_images_are_samples(picture, write_list):
    for name in ("id.png", "a.png", "b.png", "c.png"):
        picture(name)
    rows = [
        _row(0, "id.png", "one", "a.png"),
        _row(1, "id.png", "one", "a.png"),
        _row(2, "id.png", "one", "b.png"),
        _row(3, "id.png", "two", "c.png"),
    ]
    imported = assemble(_read(write_list(rows)))
    by_prompt = {case.prompt: case for case in imported.suite.cases}
    assert by_prompt["one"].multiplicity == 2
    assert by_prompt["two"].multiplicity == 1
    samples = Counter(image.case_id for image in imported.images)
    assert samples == {by_prompt["one"].case_id: 2, by_prompt["two"].case_id: 1}
    assert imported.suite.samples_per_case == 2
    assert imported.counts()["duplicates"] == 1
    assert [row.row for row in by_prompt["one"].source_rows] == [0, 1, 2]


def test_the_factor_of_the_official_join_is_reported(picture, write_list):
    picture("id.png")
    prompts = [f"prompt {n}" for n in range(55)] + [f"prompt {n}" for n in range(5)]
    for n in range(55):
        picture(f"{n}.png")
    # nested loops over equal (id, prompt): 50 rows once, 5 prompts 2 x 2 times
    joined = [p for p in prompts for q in prompts if p == q]
    rows = [_row(n, "id.png", p, f"{p.split()[1]}.png") for n, p in enumerate(joined)]
    assert len(rows) == 70
    reading = _read(write_list(rows))
    assert "70 rows, 55 different ones" in reading.notes[0]
    assert assemble(reading).counts()["duplicates"] == 15


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"imagewithid": KeyError}, r"datas\[1\], key 'imagewithid': missing"),
        ({"id": 7}, r"datas\[1\], key 'id': expected a string"),
        ({"num": -1}, r"datas\[1\], key 'num'"),
        ({"prompt": None}, r"datas\[1\], key 'prompt'"),
        ({"prompt_attr": [1]}, r"datas\[1\], key 'prompt_attr'"),
    ],
)
def test_a_malformed_row_is_named(picture, write_list, change, message):
    good = _row(0, "a.png", "x", "a.png")
    bad = {k: v for k, v in (good | change).items() if v is not KeyError}
    picture("a.png")
    with pytest.raises(ManifestError, match=message):
        _read(write_list([good, bad]))


@pytest.mark.parametrize(
    "document", [{"datas": {}}, {"tags": {"category": "video"}}, {"tags": None}, {"datas": [3]}]
)
def test_another_document_is_refused(write_list, document):
    with pytest.raises(ManifestError):
        _read(write_list([], **document))


def test_ten_thousand_rows_with_one_bad_line_count_it(picture, write_list):
    for n in range(10):
        picture(f"{n}.png")
    rows = [_row(n, f"{n % 10}.png", f"p{n // 10}", f"{n % 10}.png") for n in range(10_000)]
    rows[6_543]["imagewithid"] = "gone.png"
    imported = assemble(_read(write_list(rows)))
    assert imported.counts() | {"duplicates": 0} == {
        "rows read": 10_000,
        "images mapped": 9_999,
        "duplicates": 0,
        "missing files": 1,
        "unreadable images": 0,
        "refused paths": 0,
        "unknown ids": 0,
    }
    assert imported.problems[0].where == "datas.json, row 6543"
    assert imported.suite.count == 10_000  # the case stays, without an image


def test_bad_files_are_counted_by_kind(picture, write_list, tmp_path):
    picture("id.png")
    picture("good.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "empty.png").write_bytes(b"")
    rows = [
        _row(0, "id.png", "a", "good.png"),
        _row(1, "id.png", "b", "gone.png"),
        _row(2, "id.png", "c", "broken.png"),
        _row(3, "id.png", "d", "empty.png"),
        _row(4, "id.png", "e", "../good.png"),
        _row(5, "id.png", "f", "http://x/good.png"),
        _row(6, "gone.png", "g", "good.png"),
    ]
    counts = assemble(_read(write_list(rows))).counts()
    assert counts["images mapped"] == 1
    assert counts["missing files"] == 2
    assert counts["unreadable images"] == 2
    assert counts["refused paths"] == 2


def test_a_bomb_is_refused_by_its_header(picture, write_list, tmp_path):
    import struct
    import zlib

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(bomb)
    picture("id.png")
    imported = assemble(_read(write_list([_row(0, "id.png", "a", "bomb.png")])))
    assert imported.counts()["unreadable images"] == 1
    assert imported.images[0].path is None


def test_unknown_keys_become_tags_and_are_named(picture, write_list):
    picture("a.png")
    reading = _read(write_list([_row(0, "a.png", "x", "a.png", difficulty="hard")]))
    assert reading.units[0].tags["difficulty"] == ("hard",)
    assert "kept as tags: difficulty" in reading.notes[0]


@pytest.mark.parametrize("name", ["back\\slash.png", "c:drive.png", b"latin-\xe9.png"])
def test_a_reference_that_no_manifest_can_name_is_refused(write_list, picture, tmp_path, name):
    target = picture("plain.png").rename(tmp_path / os.fsdecode(name))
    picture("out.png")
    reading = _read(write_list([_row(0, "out.png", "x", "out.png")]))
    unit = replace(reading.units[0], references=(target,))
    imported = assemble(replace(reading, units=(unit,)))
    assert imported.counts()["refused paths"] == 1
    assert imported.images == ()


def test_names_in_either_normal_form_survive_freezing(write_list, picture, tmp_path):
    name = unicodedata.normalize("NFD", "ordné/José.png")
    picture(name)
    prompt = unicodedata.normalize("NFD", "un café")
    imported = assemble(_read(write_list([_row(0, name, prompt, name)])))
    write_suite(imported.suite, tmp_path / "suite")
    suite = read_suite(tmp_path / "suite")
    assert suite.cases[0].prompt == unicodedata.normalize("NFC", prompt)
    (file,) = suite_files(suite).values()
    assert resolve(file, suite.cases[0].references[0].source, tmp_path).is_file()


def _export(imported, tmp_path, target):
    files = {
        (source, path): resolve(file, source, tmp_path)
        for (source, path), file in suite_files(imported.suite).items()
    }
    return write(units_of(imported.suite, imported.images, files), target)


def test_export_and_import_again_lose_nothing(picture, write_list, tmp_path):
    for name in ("id (1).png", "é.png", "a.png", "b.png", "base/a.png", "base/b.png"):
        picture(name)
    rows = [
        _row(0, "id (1).png", "one", "a.png", "base/a.png"),
        _row(1, "id (1).png", "two", "b.png", "base/b.png"),
        _row(2, "é.png", "one", "b.png"),
    ]
    first = assemble(_read(write_list(rows)))
    second = assemble(_read(_export(first, tmp_path, tmp_path / "out")))
    assert second.problems == ()
    assert [c.case_id for c in second.suite.cases] == [c.case_id for c in first.suite.cases]
    assert [c.tags for c in second.suite.cases] == [c.tags for c in first.suite.cases]
    for one, two in zip(first.images, second.images, strict=True):
        assert one.path.read_bytes() == two.path.read_bytes()
        assert (one.base is None) == (two.base is None)
        assert one.base is None or one.base.read_bytes() == two.base.read_bytes()


def test_exported_pictures_share_no_basename_and_paths_are_relative(picture, write_list, tmp_path):
    for name in ("id.png", "x/000.png", "y/000.png", "z/000.png"):
        picture(name)
    rows = [
        _row(0, "id.png", "one", "x/000.png", "z/000.png"),
        _row(1, "id.png", "two", "y/000.png", "z/000.png"),
    ]
    path = _export(assemble(_read(write_list(rows))), tmp_path, tmp_path / "out")
    document = json.loads(path.read_text())
    assert document["tags"] == {"category": "imageid"}
    names = [row[key] for row in document["datas"] for key in ("imagewithid", "imagewithoutid")]
    assert not any(name.startswith("/") for name in names)
    assert len({name.rsplit("/", 1)[-1] for name in names}) == len(names)


def test_units_map_to_a_suite_that_exists(picture, write_list, make_case, tmp_path):
    import hashlib

    from idbench.prompts.references import reference_of

    identity = picture("id.png")
    sha256 = hashlib.sha256(identity.read_bytes()).hexdigest()
    picture("a.png")
    base = make_case(people=(), pose_axis=None)
    known = []
    for prompt in ("one", "two"):
        from idbench.prompts.cases import identify, prompt_id

        case = replace(
            base,
            references=(reference_of(path="elsewhere.png", sha256=sha256, source="ibench"),),
            prompt=prompt,
            prompt_id=prompt_id(prompt),
        )
        known.append(replace(case, case_id=identify(case, suite="example", version=1)))
    suite = suite_of(known, name="example", kind="single_id")
    rows = [_row(0, "id.png", "two", "a.png"), _row(1, "id.png", "three", "a.png")]
    imported = assemble(_read(write_list(rows)), suite)
    assert imported.suite is suite
    assert [image.case_id for image in imported.images] == [known[1].case_id]
    assert imported.counts()["unknown ids"] == 1
