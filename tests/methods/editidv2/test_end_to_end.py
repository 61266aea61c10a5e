"""From photo pairs to trained weights, a fusion of them, and a scored run, by the command line."""

import csv
import json

import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from idbench.cli import main
from idbench.metrics.registry import missing_requirements
from idbench.store import RunStore, load_frame

# the warnings are the libraries' own: torchvision inside facexlib, scikit-image inside insightface
pytestmark = [
    pytest.mark.skipif(bool(missing_requirements("mtcnn")), reason="needs the embedded extractors"),
    pytest.mark.filterwarnings("ignore:The parameter 'pretrained' is deprecated:UserWarning"),
    pytest.mark.filterwarnings("ignore:Arguments other than a weight enum:UserWarning"),
    pytest.mark.filterwarnings("ignore:`estimate` is deprecated:FutureWarning"),
]


@pytest.fixture(scope="module")
def variants(write_config, tmp_path_factory):
    """The start file, and what `idbench train` makes of it in two variants."""
    files = []
    for variant in ("consistency", "editability"):
        folder = tmp_path_factory.mktemp(variant)
        config = write_config(folder, variant=variant, steps=4, learning_rate=1e-2)
        assert main(["train", "editidv2", str(config), "--every", "4"]) == 0
        files.append(folder / "out" / "final-checkpoint-4.safetensors")
    return files


@pytest.fixture
def run_flags(training_weights, tmp_path, monkeypatch):
    """Flags of a small run of EditIDv2."""
    monkeypatch.setenv("IDBENCH_DATA", str(tmp_path / "data"))
    settings = [f"weights={training_weights}", "num_inference_steps=2", "max_sequence_length=16"]
    return [
        *("--suite", "tiny-single", "--limit", "2", "--size", "64x64", "--workers", "1"),
        *("--output", str(tmp_path / "runs"), "--method", "editidv2", "--method-args", *settings),
    ]


def test_a_fusion_of_what_was_trained_is_run_scored_and_tabulated(
    variants, run_flags, tmp_path, capsys
):
    fused = tmp_path / "fused.safetensors"
    flags = ["--weights", "0.25", "0.75", "-o", str(fused)]
    assert main(["fuse", "linear", *map(str, variants), *flags]) == 0
    assert main(["run", *run_flags, f"pulid={fused}", "--metrics", "sharpness"]) == 0
    assert "2/2" in capsys.readouterr().out
    (run,) = (tmp_path / "runs" / "tiny-single").iterdir()
    with RunStore.open(run) as store:
        weights = store.identity.method["fingerprint"]["weights"]
    with safe_open(fused, "pt") as file:
        metadata = file.metadata()
    assert metadata["idbench.training.variant"] == "consistency"
    files = json.loads(metadata["idbench.fusion"])["files"]
    assert [file["weight"] for file in files] == [0.25, 0.75]
    assert len({file["sha256"] for file in files} | {weights["pulid"]}) == 3
    first, second, ours = map(load_file, (*variants, fused))
    key = "pulid_ca.1.to_out.weight"
    assert (ours[key] - (0.25 * first[key] + 0.75 * second[key])).abs().max() < 1e-6
    assert (first[key] - second[key]).abs().max() > 1e-3


@pytest.mark.parametrize("strategy", ["weighted_average", "add", "multiply"])
def test_the_official_strategies_have_a_verb(variants, tmp_path, strategy):
    output = tmp_path / "merged.safetensors"
    flags = ["--strategy", strategy, "--alpha", "0.3", "-o", str(output)]
    assert main(["fuse", "official", *map(str, variants), *flags]) == 0
    a, b, merged = map(load_file, (*variants, output))
    key = "pulid_ca.0.to_q.weight"
    expected = {
        "weighted_average": 0.7 * a[key] + 0.3 * b[key],
        "add": a[key] + 0.3 * b[key],
        "multiply": a[key] * (1 + 0.3 * b[key]),
    }
    assert (merged[key] - expected[strategy]).abs().max() < 1e-6


def test_coefficients_are_searched_by_metrics_of_the_harness(
    variants, run_flags, training_weights, tmp_path, capsys
):
    start = training_weights / "pulid" / "pulid_flux_v0.9.1.safetensors"
    arguments = ["fuse", "search", *run_flags, "--files", *map(str, (start, *variants))]
    arguments += ["--metrics", "sharpness", "--preservation", "sharpness:down"]
    arguments += ["--editability", "sharpness:up", "--max-evaluations", "5"]
    assert main(arguments) == 0
    with (tmp_path / "runs" / "fusion-points.csv").open() as file:
        points = list(csv.DictReader(file))
    assert [[float(point[f"w{i}"]) for i in (1, 2, 3)] for point in points[:4]] == [
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 1],
        [0.3334, 0.3333, 0.3333],
    ]
    assert len(points) <= 5
    # more of one is less of the other: every point is on the front
    assert all(point["front"] == "yes" for point in points)
    assert sum(point["best"] == "yes" for point in points) == 1
    # the scores are those of the runs, which stay
    frame, _ = load_frame([tmp_path / "runs"])
    means = frame.groupby("label")["value"].mean()
    for point in points:
        label = "w=" + "-".join(f"{float(point[f'w{i}']):.4f}" for i in (1, 2, 3))
        assert float(point["sharpness:up"]) == pytest.approx(means[label], rel=1e-5)
        assert float(point["sharpness:down"]) == pytest.approx(-means[label], rel=1e-5)
    assert "fused.safetensors" in capsys.readouterr().out
    images = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.png")}
    assert len(images) == 2 * len(points)
    assert main(arguments) == 0  # a search that is repeated finds its images
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.png")} == images


def test_a_search_over_two_methods_is_refused(variants, run_flags, capsys):
    arguments = ["fuse", "search", "--suite", "tiny-single", "--method", "editid", "--method"]
    arguments += ["editidv2", "--files", *map(str, variants), "--metrics", "sharpness"]
    arguments += ["--preservation", "sharpness", "--editability", "sharpness"]
    assert main(arguments) == 2
    assert "for one method, got 2" in capsys.readouterr().err


def test_coefficients_that_do_not_sum_to_one_are_refused(variants, tmp_path, capsys):
    flags = ["--weights", "0.5", "0.6", "-o", str(tmp_path / "fused.safetensors")]
    assert main(["fuse", "linear", *map(str, variants), *flags]) == 2
    assert "must sum to 1 without a base, got 1.1" in capsys.readouterr().err
