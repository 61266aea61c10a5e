"""editedid-proxy: shares, the choice of photographs, and the user's editor."""

import json
import sys

import pytest
from PIL import Image

from idbench.prompts.builders.collecting import BuildOptions, PartialSourceError
from idbench.prompts.builders.editedid_proxy import (
    EditorError,
    allotment,
    build,
    crowdhuman_usable,
    draw,
)
from idbench.prompts.strict import ManifestError

EDITOR = (
    f'{sys.executable} -c "import sys; from PIL import Image, ImageOps; '
    "ImageOps.invert(Image.open(sys.argv[1]).convert('RGB')).save(sys.argv[2], 'PNG')\" "
    "{input} {output} {instruction}"
)


def test_the_shares_of_the_paper():
    assert allotment(["crowdhuman", "deepfashion_mm", "extra_photos"]) == {
        "crowdhuman": 360,
        "deepfashion_mm": 420,
        "extra_photos": 420,
    }


def test_the_share_of_an_absent_source_goes_to_the_others():
    assert allotment(["deepfashion_mm", "extra_photos"]) == {
        "deepfashion_mm": 600,
        "extra_photos": 600,
    }
    uneven = allotment(["crowdhuman", "extra_photos"], 100)
    assert sum(uneven.values()) == 100
    assert uneven == {"crowdhuman": 46, "extra_photos": 54}  # 46.15 and 53.85


def _line(*heights, ignore=0, name="a,b"):
    boxes = [
        {"tag": "person", "hbox": [1, 2, 50, height], "head_attr": {"ignore": ignore}}
        for height in heights
    ]
    return json.dumps({"ID": name, "gtboxes": boxes})


@pytest.mark.parametrize(
    ("line", "usable"),
    [
        (_line(96), True),
        (_line(200, 100, 96, 97), True),
        (_line(95), False),
        (_line(200, 10), False),
        (_line(), False),
        (_line(*[100] * 5), False),
        (_line(100, ignore=1), False),
        (_line(100, name="../x"), False),
    ],
)
def test_the_filter_of_crowdhuman(line, usable):
    assert (crowdhuman_usable(line, "here") is not None) == usable


@pytest.mark.parametrize(
    "line",
    ["{}", "[]", "x", '{"ID": 3}', '{"ID":"a","gtboxes":[{"hbox":[1],"head_attr":{"ignore":0}}]}'],
)
def test_a_bad_line_of_crowdhuman_is_named(line):
    with pytest.raises(ManifestError, match="here"):
        crowdhuman_usable(line, "here")


@pytest.fixture
def photographs(tmp_path, register):
    folder = tmp_path / "my photos (1)"
    folder.mkdir()
    for number in range(12):
        Image.new("RGB", (40, 30), (number, 20, 30)).save(folder / f"写真 {number}.png")
    return register("extra_photos", folder)


def test_pairs_are_frozen_with_named_elements(photographs, info):
    suite = build(info("editedid-proxy"), photographs, BuildOptions(), editor=EDITOR, total=5)
    assert suite.name == "editedid-proxy"
    assert suite.count == 5
    for case in suite.cases:
        assert case.edit.instruction == case.prompt
        assert case.edit.elements
        assert case.edit.original.sha256 != case.edit.edited.sha256
    again = build(info("editedid-proxy"), photographs, BuildOptions(), editor=EDITOR, total=5)
    assert again.sha256 == suite.sha256


def test_originals_stand_in_the_order_of_their_hash(photographs):
    few, many = draw(photographs, 3), draw(photographs, 8)
    assert [entry.path for entry in many][:3] == [entry.path for entry in few]


def test_too_few_photographs_are_refused(photographs):
    with pytest.raises(PartialSourceError, match="extra_photos has 12 usable photographs, 1200"):
        draw(photographs)


def test_no_source_at_all_says_how_to_register_one(tmp_path):
    with pytest.raises(PartialSourceError, match="idbench data import crowdhuman FOLDER"):
        draw(tmp_path)


@pytest.mark.parametrize(
    ("editor", "error", "message"),
    [
        ("", ValueError, "needs an editor"),
        ("cp {input} x", ValueError, "needs an editor"),
        ("/no/such/program {input} {output}", EditorError, "cannot run"),
        (
            sys.executable + " -c 'import sys; sys.exit(\"broken\")' {input} {output}",
            EditorError,
            "broken",
        ),
        (sys.executable + " -c 'pass' {input} {output}", EditorError, "left no image"),
    ],
)
def test_an_editor_that_fails_is_an_error(photographs, info, editor, error, message):
    with pytest.raises(error, match=message):
        build(info("editedid-proxy"), photographs, BuildOptions(), editor=editor, total=2)
