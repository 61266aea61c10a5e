"""multiid-bench from the folders of its rows."""

import json

import pytest
from PIL import Image

from idbench.prompts.builders import multiid_bench
from idbench.prompts.builders.collecting import BuildOptions, PartialSourceError
from idbench.prompts.cases import identify
from idbench.prompts.strict import ManifestError

PARTIAL = BuildOptions(allow_partial=True)


@pytest.fixture
def make_rows(tmp_path):
    def make(count, **changes):
        root = tmp_path / "multiid"
        for number in range(count):
            folder = root / f"row{number:03d}"
            folder.mkdir(parents=True)
            people = number % 4 + 1
            Image.new("RGB", (200, 100), (number % 256, 1, 2)).save(folder / "ori.png")
            for person in range(people):
                picture = Image.new("RGB", (8, 8), (number % 256, person, number // 256))
                picture.save(folder / f"ref_{person + 1}.png")
            boxes = [[20 * p, 10, 20 * p + 15, 60] for p in range(people)]
            meta = {
                "prompt": f"people {number}",
                "task_type": "t",
                "bboxes": json.dumps(boxes),
                "subset": "v200_m" if people > 2 else "v202",
                "num_persons": people,
            } | changes
            (folder / "meta.json").write_text(json.dumps(meta))
        return root

    return make


def test_433_rows_are_433_cases(make_rows, register, info):
    root = register("multiid_bench", make_rows(433))
    suite = multiid_bench.build(info("multiid-bench"), root, BuildOptions())
    assert (suite.count, suite.distinct) == (433, 433)
    case = next(case for case in suite.cases if case.alias == "row003")
    assert len(case.references) == 4
    assert case.people[1].box == (0.1, 0.1, 0.175, 0.6)
    assert case.ground_truth.path == "row003/ori.png"


def test_the_ground_truth_is_not_in_the_id(make_rows, register, info):
    from dataclasses import replace

    root = register("multiid_bench", make_rows(3))
    suite = multiid_bench.build(info("multiid-bench"), root, PARTIAL)
    case = suite.cases[0]
    blind = replace(case, ground_truth=None)
    assert identify(blind, suite=suite.name, version=1) == case.case_id


def test_missing_rows_and_files_are_partial(make_rows, register, info):
    source = make_rows(10)
    (source / "row004" / "ori.png").unlink()
    root = register("multiid_bench", source)
    with pytest.raises(PartialSourceError, match="424 of 433"):
        multiid_bench.build(info("multiid-bench"), root, BuildOptions())
    assert multiid_bench.build(info("multiid-bench"), root, PARTIAL).count == 9


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ('"nonsense', "key 'bboxes': not JSON"),
        ('{"a": 1}', "key 'bboxes': expected a list"),
        ("[[1, 2, 3]]", "a box has four numbers"),
        ("[[5, 5, 5, 9]]", "an empty box"),
    ],
)
def test_bad_boxes_are_named(make_rows, register, info, boxes, message):
    root = register("multiid_bench", make_rows(1, bboxes=boxes))
    with pytest.raises(ManifestError, match=message):
        multiid_bench.build(info("multiid-bench"), root, PARTIAL)


def test_boxes_that_do_not_match_the_people_are_left_out(make_rows, register, info):
    root = register("multiid_bench", make_rows(1, bboxes="[]"))
    suite = multiid_bench.build(info("multiid-bench"), root, PARTIAL)
    assert suite.cases[0].people[0].box is None
    assert suite.cases[0].layout_source is None
