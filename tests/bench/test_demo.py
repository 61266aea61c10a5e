"""The demo on real photographs: the orderings that must hold, and independence of how it ran."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest

from idbench.cli import main
from idbench.metrics.registry import missing_requirements
from idbench.store import load_frame

MISSING = missing_requirements("dlib_face")
pytestmark = pytest.mark.skipif(bool(MISSING), reason="; ".join(MISSING))

Means = Mapping[str, Mapping[str, float]]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace of one demo with one worker and the default batch size."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IDBENCH_DATA", str(folder / "data"))
        assert main(["demo", "--output", str(folder / "out"), "--workers", "1"]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def frame(demo: Path) -> pd.DataFrame:
    return load_frame([demo])[0]


@pytest.fixture(scope="module")
def means(frame: pd.DataFrame) -> Means:
    """Column (without backend) to label to plain mean."""
    found: dict[str, dict[str, float]] = {}
    for (column, label), group in frame.groupby(["column", "label"]):
        found.setdefault(str(column).partition("[")[0], {})[str(label)] = group["value"].mean()
    return found


def test_seven_people_and_at_least_ten_baselines(frame: pd.DataFrame) -> None:
    assert frame["identity"].nunique() == 7
    assert frame["label"].nunique() >= 10


def test_copy_is_identical(means: Means) -> None:
    assert means["facesim@strict"]["copy"] == pytest.approx(1, abs=1e-6)
    for column in (
        "landmarkdiff@ibench", "landmarkdiff@strict", "landmarkdiff.procrustes@strict",
        "posediv.yaw@strict", "posediv.pitch@strict", "posediv.roll@strict", "expr_change@strict",
    ):  # fmt: skip
        assert means[column]["copy"] == pytest.approx(0, abs=1e-6), column


def test_swap_has_the_lowest_similarity_by_a_wide_margin(means: Means) -> None:
    similarity = {k: v for k, v in means["facesim@strict"].items() if not math.isnan(v)}
    swap = similarity.pop("swap")
    assert min(similarity.values()) - swap > 0.1


def test_every_swap_is_another_person(frame: pd.DataFrame) -> None:
    # metrics.md E 12: the highest similarity of two different people seen is 0.45.
    chosen = frame[(frame["label"] == "swap") & frame["column"].str.startswith("facesim@")]
    assert chosen["value"].max() < 0.5


def test_rotation_moves_roll_by_its_angle(means: Means) -> None:
    assert means["posediv.roll@strict"]["rotate 15°"] == pytest.approx(15, abs=4)
    assert abs(means["headpose.roll_change@strict"]["rotate 15°"]) == pytest.approx(15, abs=4)


def test_rotation_is_removed_from_the_procrustes_variant(means: Means) -> None:
    # metrics.md E 4: 0.104 +- 0.03, without the rotation below 0.04.
    assert means["landmarkdiff@ibench"]["rotate 15°"] == pytest.approx(0.104, abs=0.03)
    assert means["landmarkdiff.procrustes@strict"]["rotate 15°"] < 0.04


def test_mirror_flips_yaw_and_roll(means: Means) -> None:
    for axis in ("yaw", "roll"):
        pose = means[f"headpose.{axis}@strict"]
        assert pose["mirror"] == pytest.approx(-pose["copy"], abs=6), axis


def test_more_blur_is_less_similar(means: Means) -> None:
    similarity = means["facesim@strict"]
    assert similarity["copy"] > similarity["blur 2 px"] > similarity["blur 4 px"]


def test_noise_shows_no_face_and_every_miss_is_counted(frame: pd.DataFrame) -> None:
    noise = frame[(frame["label"] == "noise") & (frame["column"] != "n_faces@strict[mtcnn]")]
    assert set(noise["reason"]) == {"no_face"}
    assert (frame.groupby(["label", "column"]).size() == 21).all()


def test_the_committed_table_is_what_the_code_makes(demo: Path) -> None:
    # Other processors and library versions may move the last digits; these tolerances are a tenth
    # of what separates two baselines.
    committed = pd.read_csv(Path(__file__).parents[2] / "results" / "demo" / "table.csv")
    made = pd.read_csv(demo / "table.csv")
    keys = ["label", "column"]
    both = committed.merge(made, on=keys, suffixes=("", "_made"), how="outer", indicator=True)
    assert set(both["_merge"]) == {"both"}
    degrees = both["column"].str.contains("pose")
    off = (both["mean"] - both["mean_made"]).abs()
    assert off[degrees].max() < 0.5
    assert off[~degrees].max() < 0.005
    assert (both["n"] == both["n_made"]).all()


def test_the_demo_leaves_table_and_plot(demo: Path) -> None:
    text = (demo / "table.txt").read_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "21/21" in text
    assert json.loads((demo / "table.json").read_text())
    assert (demo / "pareto.png").read_bytes().startswith(b"\x89PNG")
    assert len((demo / "pareto.csv").read_text().splitlines()) >= 11


def test_scores_do_not_depend_on_batch_size_and_workers(
    demo: Path, frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IDBENCH_DATA", str(tmp_path / "data"))
    arguments = ["demo", "--output", str(tmp_path / "out"), "--workers", "2", "--batch-size", "1"]
    assert main(arguments) == 0
    pd.testing.assert_frame_equal(load_frame([tmp_path / "out"])[0], frame, check_exact=True)
    for name in ("table.txt", "table.csv", "pareto.csv", "pareto.svg", "pareto.png"):
        assert (tmp_path / "out" / name).read_bytes() == (demo / name).read_bytes(), name


def test_a_finished_demo_does_nothing(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {
        path: path.stat().st_mtime_ns for path in demo.rglob("*.png") if "images" in path.parts
    }
    assert main(["demo", "--output", str(demo), "--workers", "1"]) == 0
    err = capsys.readouterr().err
    assert err.count("nothing to do, 21 images are there") == 12
    assert err.count("nothing to do, 21 samples are scored") == 12
    assert before == {path: path.stat().st_mtime_ns for path in before}
