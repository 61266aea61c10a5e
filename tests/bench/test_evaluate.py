"""The metric engine: each image decoded once, each network once, every miss kept with its reason.

The networks here are arithmetic on pixels, so that passes can be counted; the real ones are tested
in tests/metrics and in test_demo.py.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from idbench import evaluate, extraction
from idbench.evaluate import ScoreOptions, score
from idbench.generate import GenerateOptions, generate
from idbench.method_spec import MethodSpec
from idbench.metrics.images import read_rgb
from idbench.metrics.protocol import (
    Features,
    Item,
    MetricInfo,
    Missing,
    MissingValueError,
    Observation,
    Role,
)
from idbench.prompts.suites import Suite
from idbench.set_scores import load_set_aggregates
from idbench.store import load_frame


class Mean:
    """Mean colour; refuses pictures whose top left pixel is pure red."""

    name, needs, reads = "mean", (), "image"
    passes: ClassVar[Counter[bytes]] = Counter()
    calls: ClassVar[list[int]] = []
    version = 1
    broken_for: ClassVar[tuple[int, int, int] | None] = None

    def fingerprint(self) -> Mapping[str, object]:
        return {"name": self.name, "version": self.version}

    def __call__(self, items: Sequence[Item]) -> list[Features | Missing]:
        self.calls.append(len(items))
        found: list[Features | Missing] = []
        for item in items:
            assert item.image is not None
            first = tuple(item.image[0, 0])
            if first == self.broken_for:
                raise ArithmeticError("broken network")
            self.passes[item.image.tobytes()] += 1
            if first == (255, 0, 0):
                found.append(Missing("no_face", "all red"))
            else:
                found.append({"mean": item.image.reshape(-1, 3).mean(0)})
        return found


class Double:
    """Twice what `mean` found."""

    name, needs, reads = "double", ("mean",), "image"

    def fingerprint(self) -> Mapping[str, object]:
        return {"name": self.name}

    def __call__(self, items: Sequence[Item]) -> list[Features | Missing]:
        return [{"double": 2 * item.features["mean"]["mean"]} for item in items]


class Distance:
    """Mean absolute difference of doubled mean colours."""

    info = MetricInfo(
        name="distance", protocol="strict", backend="test", summary="test", unit="levels",
        higher_is_better=False, bounds=(0, 510), axis="editability", variants=("", "red"),
    )  # fmt: skip
    needs: ClassVar[Mapping[Role, tuple[str, ...]]] = {
        "reference": ("double",),
        "generated": ("double",),
    }
    version = 1

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        one = observation.get("reference", "double")["double"]
        two = observation.get("generated", "double")["double"]
        difference = np.abs(one - two)
        return {"": float(difference.mean()), "red": float(difference[0])}


class Brightness:
    """Mean of `mean`: shares its network with `Distance`."""

    info = MetricInfo(
        name="brightness", protocol="strict", backend="test", summary="test", unit="levels",
        higher_is_better=None, bounds=(0, 255), axis="quality",
    )  # fmt: skip
    needs: ClassVar[Mapping[Role, tuple[str, ...]]] = {"generated": ("mean",)}
    version = 1
    answer: ClassVar[object] = None

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            return {"": self.answer}  # type: ignore[dict-item]
        return {"": float(observation.get("generated", "mean")["mean"].mean())}


class Largest:
    """The largest mean brightness of a run, over which coverage can be counted by hand."""

    info = MetricInfo(
        name="largest", protocol="strict", backend="test", summary="test", unit="levels",
        higher_is_better=None, bounds=(0, 255), axis="quality",
    )  # fmt: skip
    needs: ClassVar[Mapping[Role, tuple[str, ...]]] = {"generated": ("mean",)}
    version = 1

    def start(self) -> "Largest":
        state = Largest()
        state.values: list[float] = []  # type: ignore[misc]
        return state

    def update(self, observation: Observation) -> None:
        self.values.append(float(observation.get("generated", "mean")["mean"].mean()))

    def merge(self, other: "Largest") -> None:
        self.values += other.values

    def compute(self) -> Mapping[str, float | Missing]:
        return {"": max(self.values)} if self.values else {"": Missing("too_few_images")}


SETS = {"largest": Largest}
METRICS = {"distance": Distance, "brightness": Brightness}


@pytest.fixture(autouse=True)
def networks(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Registers the test networks; counts decodes by file name."""
    decodes: Counter[str] = Counter()

    def counting(path: Path) -> np.ndarray:
        decodes[str(path)] += 1
        return read_rgb(path)

    order = ["mean", "double"]
    monkeypatch.setattr(extraction, "read_rgb", counting)
    monkeypatch.setattr(
        evaluate, "resolve", lambda names: [METRICS[name]() for name in names if name in METRICS]
    )
    monkeypatch.setattr(
        evaluate, "resolve_sets", lambda names: [SETS[name]() for name in names if name in SETS]
    )
    monkeypatch.setattr(
        extraction,
        "extractor_order",
        lambda names: order[: max((order.index(name) for name in names), default=-1) + 1],
    )
    monkeypatch.setattr(
        extraction,
        "build_extractor",
        lambda name, **_: {"mean": Mean, "double": Double}[name](),
    )
    Mean.passes, Mean.calls, Mean.version, Mean.broken_for = Counter(), [], 1, None
    Brightness.answer = None
    return decodes


def options(tmp_path: Path, **changes: object) -> ScoreOptions:
    values = {"workspace": tmp_path / "runs", "data_root": tmp_path, "workers": 1} | changes
    return ScoreOptions(**values)


def generated(suite: Suite, tmp_path: Path, *names: str) -> list[tuple[Path, Suite]]:
    specs = [MethodSpec(name=name) for name in names]
    where = GenerateOptions(workspace=tmp_path / "runs", data_root=tmp_path)
    return [(done.directory, suite) for done in generate(suite, specs, where)]


def values(tmp_path: Path, column: str) -> list[float]:
    frame, _ = load_frame([tmp_path / "runs"])
    chosen = frame[frame["column"] == f"{column}@strict[test]"]
    return [float(value) for value in chosen["value"]]


def reasons(tmp_path: Path, column: str) -> list[str]:
    frame, _ = load_frame([tmp_path / "runs"])
    return list(frame[frame["column"] == f"{column}@strict[test]"]["reason"])


def test_values_are_those_of_the_formula(pictures: Suite, tmp_path: Path) -> None:
    # The swap of identity i shows identity j != i; the colours are (40 i, 80, 120).
    score(generated(pictures, tmp_path, "swap"), ["distance"], options(tmp_path))
    reds = values(tmp_path, "distance.red")
    assert set(reds) <= {2 * 40.0, 2 * 80.0}
    assert values(tmp_path, "distance") == pytest.approx([red / 3 for red in reds])


def test_each_input_is_decoded_once_and_each_network_runs_once(
    pictures: Suite, tmp_path: Path, networks: Counter[str]
) -> None:
    runs = generated(pictures, tmp_path, "copy", "mirror")
    score(runs, ["distance", "brightness"], options(tmp_path))
    assert max(networks.values()) == 1
    # 3 references, and one picture per identity that all runs and prompts have in common.
    assert sum(networks.values()) == 6
    assert sum(Mean.passes.values()) == 6


def test_another_metric_on_stored_features_runs_no_network(
    pictures: Suite, tmp_path: Path, networks: Counter[str]
) -> None:
    runs = generated(pictures, tmp_path, "copy")
    score(runs, ["distance"], options(tmp_path))
    networks.clear()
    Mean.passes.clear()
    (done,) = score(runs, ["brightness"], options(tmp_path))
    assert done.scored == 6
    assert not networks
    assert not Mean.passes


def test_a_scored_run_is_left_alone(pictures: Suite, tmp_path: Path) -> None:
    runs = generated(pictures, tmp_path, "copy")
    score(runs, ["distance"], options(tmp_path))
    Mean.calls.clear()
    (again,) = score(runs, ["distance"], options(tmp_path))
    assert (again.scored, again.kept, Mean.calls) == (0, 6, [])


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_scores_do_not_depend_on_the_batch_size(
    pictures: Suite, tmp_path: Path, batch_size: int
) -> None:
    score(
        generated(pictures, tmp_path, "warp"),
        ["distance"],
        options(tmp_path, batch_size=batch_size),
    )
    found = values(tmp_path, "distance")
    (tmp_path / "runs").rename(tmp_path / "first")
    score(generated(pictures, tmp_path, "warp"), ["distance"], options(tmp_path))
    assert found == values(tmp_path, "distance")


def test_a_changed_extractor_is_another_column(pictures: Suite, tmp_path: Path) -> None:
    runs = generated(pictures, tmp_path, "copy")
    (first,) = score(runs, ["distance"], options(tmp_path))
    Mean.version = 2
    (second,) = score(runs, ["distance"], options(tmp_path))
    assert first.columns[0].name == second.columns[0].name
    assert first.columns[0].fingerprint != second.columns[0].fingerprint
    assert second.scored == 6
    frame, columns = load_frame([tmp_path / "runs"])
    assert len(columns) == 4
    assert len(frame) == 4 * 6


def test_a_miss_of_a_network_reaches_every_metric_with_its_reason(
    pictures: Suite, tmp_path: Path
) -> None:
    runs = generated(pictures, tmp_path, "noise")
    directory = runs[0][0]
    red = Image.new("RGB", (24, 16), (255, 0, 0))
    _replace(directory, pictures.cases[0].case_id, red)
    score(runs, ["distance", "brightness"], options(tmp_path))
    for column in ("distance", "distance.red", "brightness"):
        assert reasons(tmp_path, column) == ["no_face", "", "", "", "", ""]


def _replace(directory: Path, case_id: str, image: Image.Image) -> None:
    """Puts another image in the place of a recorded one, as if the method had made it."""
    from dataclasses import replace

    from idbench.metrics.images import sha256_of
    from idbench.store import RunStore

    with RunStore.open(directory) as store:
        (sample,) = [s for s in store.samples() if s.case_id == case_id]
        path = directory / str(sample.path)
        image.save(path)
        store.record([replace(sample, sha256=sha256_of(path))])


def test_a_sample_without_an_image_is_a_miss_in_every_column(
    pictures: Suite, tmp_path: Path
) -> None:
    runs = generated(pictures, tmp_path, "images:" + str(tmp_path / "pictures"))
    score(runs, ["distance"], options(tmp_path))
    assert set(reasons(tmp_path, "distance")) == {"no_image"}
    assert all(math.isnan(value) for value in values(tmp_path, "distance"))


def test_one_broken_input_costs_only_itself_and_can_be_retried(
    pictures: Suite, tmp_path: Path
) -> None:
    runs = generated(pictures, tmp_path, "copy")
    Mean.broken_for = (40, 80, 120)
    score(runs, ["brightness"], options(tmp_path))
    assert Counter(reasons(tmp_path, "brightness")) == {"error": 2, "": 4}
    Mean.broken_for = None
    score(runs, ["brightness"], options(tmp_path))
    assert Counter(reasons(tmp_path, "brightness")) == {"error": 2, "": 4}
    (done,) = score(runs, ["brightness"], options(tmp_path, retry_failed=True))
    assert done.scored == 2
    assert Counter(reasons(tmp_path, "brightness")) == {"": 6}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:40]), "changed_image"),
        (lambda path: path.unlink(), "unreadable_image"),
    ],
)
def test_a_damaged_image_is_a_miss_and_is_not_remembered(
    pictures: Suite, tmp_path: Path, damage: object, reason: str
) -> None:
    runs = generated(pictures, tmp_path, "noise")
    path = next((runs[0][0] / "images").rglob("*.png"))
    good = path.read_bytes()
    damage(path)  # type: ignore[operator]
    score(runs, ["brightness"], options(tmp_path))
    assert Counter(reasons(tmp_path, "brightness")) == {reason: 1, "": 5}
    path.write_bytes(good)
    score(runs, ["brightness"], options(tmp_path, retry_failed=True))
    assert Counter(reasons(tmp_path, "brightness")) == {"": 6}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (float("nan"), "not_finite"),
        (float("inf"), "not_finite"),
        (Missing("no_face", "x"), "no_face"),
        (MissingValueError("no_reference_face"), "no_reference_face"),
        (ZeroDivisionError("x"), "error"),
    ],
)
def test_what_is_no_number_becomes_a_reason(
    pictures: Suite, tmp_path: Path, answer: object, reason: str
) -> None:
    runs = generated(pictures, tmp_path, "copy")
    Brightness.answer = answer
    score(runs, ["brightness"], options(tmp_path))
    assert set(reasons(tmp_path, "brightness")) == {reason}


def test_a_set_metric_has_one_value_with_its_coverage(pictures: Suite, tmp_path: Path) -> None:
    runs = generated(pictures, tmp_path, "copy")
    _replace(runs[0][0], pictures.cases[0].case_id, Image.new("RGB", (24, 16), (255, 0, 0)))
    score(runs, ["largest"], options(tmp_path))
    frame, columns = load_set_aggregates([tmp_path / "runs"])
    assert [column.name for column in columns] == ["largest@strict[test]"]
    (row,) = frame.to_dict("records")
    # The colours are (40 i, 80, 120) for i = 0, 1, 2: the brightest mean is 280 / 3.
    assert row["mean"] == pytest.approx(280 / 3)
    assert (row["n"], row["total"], row["reasons"]) == (5, 6, '{"no_face":1}')
    assert math.isnan(row["low"])


def test_a_set_value_is_computed_again_only_when_an_image_changes(
    pictures: Suite, tmp_path: Path
) -> None:
    runs = generated(pictures, tmp_path, "copy")
    score(runs, ["largest"], options(tmp_path))
    Mean.calls.clear()
    before = load_set_aggregates([tmp_path / "runs"])[0]["mean"][0]
    score(runs, ["largest"], options(tmp_path))
    assert Mean.calls == []
    _replace(runs[0][0], pictures.cases[0].case_id, Image.new("RGB", (24, 16), (250, 250, 250)))
    score(runs, ["largest"], options(tmp_path))
    assert load_set_aggregates([tmp_path / "runs"])[0]["mean"][0] == 250 > before
