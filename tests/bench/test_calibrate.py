"""The metamorphic checks: the embedded metrics pass them, broken metrics do not."""

import json
import math

import numpy as np
import pytest

from idbench.calibrate import Photograph, runnable, scenes, score_scenes
from idbench.cli import main
from idbench.metrics.calibration import (
    AtLeast,
    Below,
    Changed,
    Check,
    Equals,
    Falling,
    LastIsLowest,
    Misses,
    Near,
    Opposite,
    Rising,
    Unchanged,
    judge,
)
from idbench.metrics.calibration_checks import checks
from idbench.metrics.calibration_images import TRANSFORMS
from idbench.metrics.protocol import Missing
from idbench.metrics.registry import resolve
from idbench.prompts.materialise import materialise
from idbench.prompts.sources import data_root
from idbench.prompts.sources import resolve as file_of
from idbench.prompts.suites import load_suite


def picture(suite_name, path):
    from idbench.metrics.images import read_rgb

    root = data_root()
    suite = load_suite(suite_name, data_root=root)
    materialise(suite, root)
    (reference, *_) = [r for case in suite.cases for r in case.references if r.path == path]
    return read_rgb(file_of(reference, reference.source, root))


@pytest.fixture(scope="module")
def here():
    pytest.importorskip("dlib")
    columns, _ = runnable(checks())
    return columns


@pytest.fixture(scope="module")
def values(here):
    """What the metrics that can run here give for every scenario."""
    made = scenes(
        Photograph(pixels=picture("tiny-subject", "astronaut.png"), prompt="an astronaut"),
        Photograph(pixels=picture("demo", "people/t1-a.ppm"), prompt="a woman"),
        [],
    )
    asked = {n for check in checks() if check.column in here for n in check.scenarios}
    return score_scenes({n: made[n] for n in made if n in asked}, here)


def test_the_embedded_metrics_pass_every_check(values):
    judged = judge(list(checks()), values)
    failed = [(j.check, j.values) for j in judged if j.verdict == "fail"]
    assert not failed
    done = {j.check.column for j in judged if j.verdict == "pass"}
    assert done >= {
        "facesim@strict[dlib]",
        "landmarkdiff@ibench[mtcnn]",
        "landmarkdiff@strict[mtcnn]",
        "posediv.roll@strict[dlib68]",
        "expr_change@strict[dlib68]",
        "sharpness@strict[laplacian]",
        "n_faces@strict[mtcnn]",
    }


def blind(of_column):
    """A metric that does not look at the image: the mean of its values, always."""
    numbers = [value for value in of_column.values() if not isinstance(value, Missing)]
    return dict.fromkeys(of_column, float(np.mean(numbers)))


def mistaken(of_column):
    """A metric that looks at another person's photograph instead."""
    return dict.fromkeys(of_column, of_column["swap"])


def wild(of_column):
    """A metric that multiplies by ten and adds fifty."""
    return {
        name: value if isinstance(value, Missing) else 10 * value + 50
        for name, value in of_column.items()
    }


def upside_down(of_column):
    """A metric with its sign lost."""
    return {
        name: value if isinstance(value, Missing) else -value for name, value in of_column.items()
    }


def always_a_number(of_column):
    """A metric that puts zero where it has no value."""
    return {name: 0.0 if isinstance(value, Missing) else value for name, value in of_column.items()}


BROKEN = (blind, mistaken, wild, upside_down, always_a_number)


def test_every_check_fails_for_a_metric_that_is_broken(values):
    wanted = [check for check in checks() if check.column in values]
    assert len(wanted) >= 30
    caught = {check: set() for check in map(id, wanted)}
    for broken in BROKEN:
        spoiled = {column: broken(of_column) for column, of_column in values.items()}
        for judgement in judge(wanted, spoiled):
            if judgement.verdict == "fail":
                caught[id(judgement.check)].add(broken.__name__)
    unmoved = [check for check in wanted if not caught[id(check)]]
    assert not unmoved


@pytest.mark.parametrize("broken", BROKEN)
def test_every_kind_of_break_is_noticed_by_some_check(values, broken):
    wanted = [check for check in checks() if check.column in values]
    spoiled = {column: broken(of_column) for column, of_column in values.items()}
    assert any(judgement.verdict == "fail" for judgement in judge(wanted, spoiled))


def test_a_metric_that_forgot_to_remove_shift_and_scale_is_caught(values, monkeypatch):
    """Landmarkdiff without its normalisation, end to end."""
    from idbench.metrics.identity import landmarkdiff

    monkeypatch.setattr(landmarkdiff, "normalised", lambda points: np.asarray(points, float) / 500)
    column = "landmarkdiff@strict[mtcnn]"
    made = {
        name: scene
        for name, scene in scenes(
            Photograph(pixels=picture("tiny-subject", "astronaut.png"), prompt=""),
            Photograph(pixels=picture("demo", "people/t1-a.ppm"), prompt=""),
            [],
        ).items()
        if name in {"none", "half size", "pad 20 %", "roll 15"}
    }
    (metric,) = resolve([column])
    spoiled = score_scenes(made, {column: (metric, "")})
    wanted = [
        check
        for check in checks()
        if check.column == column and set(check.scenarios) <= made.keys()
    ]
    found = {j.check.number: j.verdict for j in judge(wanted, spoiled)}
    assert found[2] == "pass"
    assert found[6] == "fail"
    assert found[7] == "fail"


def test_a_column_without_its_networks_is_skipped_and_not_passed():
    (judgement,) = judge(
        [Check(number=1, column="x", scenarios=("none",), expectation=Near(0, 1))], {}
    )
    assert judgement.verdict == "skip"


LOST = Missing("no_face")


@pytest.mark.parametrize(
    ("expectation", "good", "bad"),
    [
        (Near(1.0, 0.1), [1.05, 0.95], [1.2, 1.0]),
        (Equals((10.0, 20.0), 4.0), [13.0, 17.0], [10.0, 10.0]),
        (AtLeast(0.5), [0.5, 1.0], [0.4, 1.0]),
        (Below(0.5), [0.1, 0.4], [0.1, 0.5]),
        (Falling(), [3.0, 2.0, 1.0], [3.0, 3.0, 1.0]),
        (Rising(), [0.0, 1.0], [1.0, 1.0]),
        (Opposite(1.0), [5.0, -4.5], [5.0, 5.0]),
        (LastIsLowest(), [0.9, 0.8, 0.1], [0.9, 0.1, 0.1]),
        (Unchanged(0.1), [1.0, 1.05], [1.0, 1.2]),
        (Changed(0.1), [1.0, 1.2], [1.0, 1.05]),
    ],
)
def test_expectations(expectation, good, bad):
    assert expectation.holds(good)
    assert not expectation.holds(bad)
    assert not expectation.holds([LOST, *good[1:]])
    assert not expectation.holds([math.nan, *good[1:]])
    assert str(expectation)


def test_a_miss_is_expected_for_its_reason():
    assert Misses("no_face").holds([LOST])
    assert not Misses("no_face").holds([Missing("error")])
    assert not Misses("no_face").holds([0.0])
    assert Unchanged(0.1).holds([LOST, LOST])


def test_every_check_is_of_a_metric_and_of_scenarios_that_exist():
    image = np.zeros((64, 64, 3), np.uint8)
    one = Photograph(pixels=image, prompt="x")
    made = {name.partition("/")[0] for name in scenes(one, one, [one])}
    for check in checks():
        assert len(resolve([check.column])) == 1
        assert set(check.scenarios) <= made
    assert {check.number for check in checks()} == {*range(1, 20), 22}


def test_changes_keep_the_kind_of_an_image():
    image = np.random.default_rng(0).integers(0, 256, (90, 60, 3), np.uint8)
    for name, change in TRANSFORMS.items():
        changed = change(image)
        assert changed.dtype == np.uint8, name
        assert changed.ndim == 3
        np.testing.assert_array_equal(changed, change(image))
        if name not in {"half size", "pad 20 %", "no face"}:
            assert changed.shape == image.shape, name


def test_the_verb_prints_a_verdict_per_check_and_fails_with_the_checks(capsys, monkeypatch):
    pytest.importorskip("dlib")
    assert main(["calibrate", "sharpness", "--json"]) == 0
    (first, *_) = json.loads(capsys.readouterr().out)
    assert first["column"] == "sharpness@strict[laplacian]"
    assert first["verdict"] == "pass"
    from idbench.metrics.extractors import sharpness

    monkeypatch.setattr(sharpness, "laplacian_variance", lambda image: 1.0)
    assert main(["calibrate", "sharpness"]) == 1
    out = capsys.readouterr().out
    assert "fail   9  sharpness@strict[laplacian]" in out
    assert "1 failed" in out
    assert main(["calibrate", "no_such_column"]) == 2
