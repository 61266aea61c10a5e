"""Several devices on one machine, and scoring while images are made: the same rows."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from idbench import evaluate, extraction
from idbench.config import RunConfig
from idbench.devices import devices_of
from idbench.evaluate import ScoreOptions, score
from idbench.executors import RayOptions
from idbench.generate import GenerateOptions, generate
from idbench.method_spec import MethodSpec
from idbench.metrics.protocol import Features, Item, MetricInfo, Missing, Observation, Role
from idbench.overlap import ScoringAhead
from idbench.prompts.suites import Suite
from idbench.store import RunStore, load_frame

pytestmark = pytest.mark.usefixtures("importable")


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("cpu", ("cpu",)),
        ("cuda:1", ("cuda:1",)),
        ("cuda:0, cuda:1", ("cuda:0", "cuda:1")),
        ("mps", ("mps",)),
    ],
)
def test_devices_are_listed(text: str, devices: tuple[str, ...]) -> None:
    assert devices_of(text) == devices


@pytest.mark.parametrize("text", ["", "cuda:", "cuda:0,", "GPU 1", "mps:*"])
def test_what_is_no_device_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="device"):
        devices_of(text)


def test_all_devices_are_those_that_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert devices_of("cuda:*") == ("cuda:0", "cuda:1", "cuda:2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="none is visible"):
        devices_of("cuda:*")


NAMING = """
    import os
    from pathlib import Path

    class Method:
        def __init__(self, device="cpu"):
            self.device = device

        def generate(self, requests):
            with Path(__file__).with_name("devices.txt").open("a") as log:
                log.writelines(f"{os.getpid()} {self.device}\\n" for request in requests)
            return [request.references[0].image for request in requests]
"""


def test_each_device_has_a_process_of_its_own(
    pictures: Suite, method_file: Callable[[str], str], tmp_path: Path
) -> None:
    options = GenerateOptions(
        workspace=tmp_path / "runs", data_root=tmp_path, device="cpu:0,cpu:1", batch_size=1
    )
    (done,) = generate(pictures, [MethodSpec(name=method_file(NAMING))], options)
    assert done.made == 6
    lines = [line.split() for line in (tmp_path / "devices.txt").read_text().splitlines()]
    assert len(lines) == 6
    assert {device for _, device in lines} <= {"cpu:0", "cpu:1"}
    assert len(set(map(tuple, lines))) == len({process for process, _ in lines})
    with RunStore.open(done.directory) as store:
        assert store.identity.environment["device"] == "cpu:0,cpu:1"


class Mean:
    """Mean colour; leaves a mark for each image that it reads."""

    name, needs, reads = "mean", (), "image"
    marks: ClassVar[Path]

    def __init__(self, marks: Path) -> None:
        self.folder = marks

    def fingerprint(self) -> Mapping[str, object]:
        return {"name": self.name}

    def __call__(self, items: Sequence[Item]) -> list[Features | Missing]:
        with (self.folder / "passes.txt").open("a") as log:
            log.writelines("pass\n" for _ in items)
        return [{"mean": item.image.reshape(-1, 3).mean(0)} for item in items]  # type: ignore[union-attr]


class Build:
    """Builds the extractor in whichever process asks."""

    def __init__(self, marks: Path) -> None:
        self.marks = marks

    def __call__(self, name: str, **_: object) -> Mean:
        assert name == "mean"
        return Mean(self.marks)


class Redness:
    """Red of the generated image."""

    info = MetricInfo(
        name="redness", unit="levels", higher_is_better=None, bounds=(0, 255), axis="quality",
        protocol="strict", backend="test", comparable_to_published=False, summary="red",
    )  # fmt: skip
    version = 1
    needs: ClassVar[Mapping[Role, tuple[str, ...]]] = {"generated": ("mean",)}

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        (features,) = observation.features["generated"]
        assert not isinstance(features["mean"], Missing)
        return {"": float(features["mean"]["mean"][0])}


@pytest.fixture
def passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Makes `redness` known and counts the images that its network has read."""
    monkeypatch.setattr(evaluate, "resolve", lambda names: [Redness()])
    monkeypatch.setattr(evaluate, "resolve_sets", lambda names: [])
    monkeypatch.setattr("idbench.overlap.resolve", lambda names: [Redness()])
    monkeypatch.setattr("idbench.overlap.resolve_sets", lambda names: [])
    monkeypatch.setattr(extraction, "extractor_order", lambda names: ["mean"] if names else [])
    monkeypatch.setattr(extraction, "build_extractor", Build(tmp_path))
    log = tmp_path / "passes.txt"
    return lambda: log.read_text().count("pass") if log.exists() else 0


def scored(tmp_path: Path, name: str) -> list[tuple[str, float]]:
    frame, _ = load_frame([tmp_path / name])
    return sorted(zip(frame["case_id"], map(float, frame["value"]), strict=True))


def test_scoring_beside_generating_gives_the_same_scores(
    pictures: Suite, tmp_path: Path, passes: Callable[[], int]
) -> None:
    def options(name: str) -> tuple[GenerateOptions, ScoreOptions]:
        folders = {"workspace": tmp_path / name, "data_root": tmp_path}
        return (
            GenerateOptions(**folders, batch_size=2, device="cpu:0,cpu:1"),
            ScoreOptions(**folders, device="cpu:0,cpu:1", batch_size=2),
        )

    generating, scoring = options("after")
    (done,) = generate(pictures, [MethodSpec(name="noise")], generating)
    score([(done.directory, pictures)], ["redness"], scoring)
    assert passes() == 6

    generating, scoring = options("beside")
    with ScoringAhead(pictures, ["redness"], scoring) as ahead:
        (done,) = generate(pictures, [MethodSpec(name="noise")], generating, ahead.recorded)
    assert passes() == 12  # all were read before the scoring itself began
    score([(done.directory, pictures)], ["redness"], scoring)
    assert passes() == 12
    assert scored(tmp_path, "beside") == scored(tmp_path, "after")


def test_a_fault_of_the_networks_ahead_is_said_by_the_scoring(
    pictures: Suite, tmp_path: Path, passes: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str, **_: object) -> Mean:
        raise OSError("no weights")

    monkeypatch.setattr(extraction, "build_extractor", broken)
    folders = {"workspace": tmp_path / "runs", "data_root": tmp_path}
    scoring = ScoreOptions(**folders, workers=1)
    with ScoringAhead(pictures, ["redness"], scoring) as ahead:
        (done,) = generate(
            pictures, [MethodSpec(name="noise")], GenerateOptions(**folders), ahead.recorded
        )
    assert done.made == 6
    with pytest.raises(OSError, match="no weights"):
        score([(done.directory, pictures)], ["redness"], scoring)


def test_both_on_ray_give_the_same_scores(
    pictures: Suite, tmp_path: Path, passes: Callable[[], int]
) -> None:
    ray = pytest.importorskip("ray", reason="needs the ray extra")
    here = {"workspace": tmp_path / "here", "data_root": tmp_path}
    (done,) = generate(pictures, [MethodSpec(name="noise")], GenerateOptions(**here))
    score([(done.directory, pictures)], ["redness"], ScoreOptions(**here, workers=1))
    assert passes() == 6

    cluster = RayOptions(shared=tmp_path)
    there = {"workspace": tmp_path / "there", "data_root": tmp_path, "ray": cluster}
    scoring = ScoreOptions(**there, workers=1, batch_size=2)
    generating = GenerateOptions(**there, workers=1, batch_size=2)
    try:
        with ScoringAhead(pictures, ["redness"], scoring) as ahead:
            (done,) = generate(pictures, [MethodSpec(name="noise")], generating, ahead.recorded)
        assert passes() == 12  # all were read before the scoring itself began
        score([(done.directory, pictures)], ["redness"], scoring)
        assert scored(tmp_path, "there") == scored(tmp_path, "here")
        (tmp_path / "there" / "features.sqlite").unlink()
        with RunStore.open(done.directory) as store, store._transaction() as database:
            database.execute("DELETE FROM scores")
        score([(done.directory, pictures)], ["redness"], scoring)
    finally:
        ray.shutdown()
    assert scored(tmp_path, "there") == scored(tmp_path, "here")
    assert passes() == 18


@pytest.mark.parametrize(
    ("changes", "ahead", "shares"),
    [
        ({}, False, None),
        ({"device": "cuda"}, False, None),
        ({"device": "cuda:0,cuda:1"}, True, None),
        ({"device": "cuda:0,cuda:1", "overlap": False}, False, None),
        ({"executor": "ray"}, False, (0.0, 0.0)),
        ({"executor": "ray", "device": "cuda"}, True, (0.75, 0.25)),
        ({"executor": "ray", "device": "cuda", "ray_gpus": 2.0}, True, (2.0, 0.25)),
    ],
)
def test_what_is_shared_and_what_overlaps(
    changes: dict[str, object], ahead: bool, shares: tuple[float, float] | None
) -> None:
    config = RunConfig(suite="demo", methods=["copy"], **changes)
    assert config.scores_ahead() == ahead
    generating, scoring = config.ray(scoring=False), config.ray(scoring=True)
    if shares is None:
        assert generating is scoring is None
    else:
        assert generating is not None
        assert scoring is not None
        assert (generating.gpus, scoring.gpus) == shares


def test_options_of_ray_without_ray_are_refused() -> None:
    config = RunConfig(suite="demo", methods=["copy"], ray_address="auto")
    with pytest.raises(ValueError, match="ray_address: only with executor ray"):
        config.ray(scoring=False)
