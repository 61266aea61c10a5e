"""From files on disk to a table, and what the run remembers of every image."""

import json

import pytest

from idbench.cli import main
from idbench.metrics.registry import missing_requirements
from idbench.store import load_frame

pytestmark = [
    # the libraries' own: torchvision inside facexlib, scikit-image inside insightface
    pytest.mark.filterwarnings("ignore:The parameter 'pretrained' is deprecated:UserWarning"),
    pytest.mark.filterwarnings("ignore:Arguments other than a weight enum:UserWarning"),
    pytest.mark.filterwarnings("ignore:`estimate` is deprecated:FutureWarning"),
    pytest.mark.skipif(
        bool(missing_requirements("dlib_face")), reason="needs the embedded extractors"
    ),
]


def test_a_tiny_model_is_run_scored_and_tabulated(flexid_weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IDBENCH_DATA", str(tmp_path / "data"))
    arguments = ["run", "--suite", "tiny-single", "--method", "flexid", "--limit", "2"]
    arguments += ["--size", "64x64", "--workers", "1", "--output", str(tmp_path / "runs")]
    arguments += ["--method-args", f"weights={flexid_weights}", "num_inference_steps=2"]
    arguments += ["max_sequence_length=32"]
    assert main(arguments) == 0
    table = capsys.readouterr().out
    assert "flexid" in table
    assert "2/2" in table  # the number of faces is known of both images
    frame, *_ = load_frame([tmp_path / "runs"])
    assert frame["case_id"].nunique() == 2
    assert main(["export", "--notes", str(tmp_path / "runs")]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 2
    for line in lines:
        notes = line["notes"]
        assert notes["sip"] == "facet5"
        assert len(notes["alpha"]) == len(notes["w"]) == 2
        edits = [hit for hit in notes["intent"]["hits"] if not hit["negated"]]
        assert notes["intent"]["value"] == (1.0 if edits else 0.0)
        assert sum(notes["w"]) == pytest.approx(2 * (0.7 if edits else 1.0))
    images = sorted((tmp_path / "runs").rglob("*.png"))
    assert len(images) == 2
    written = [path.stat().st_mtime_ns for path in images]
    assert main(arguments) == 0  # there is nothing left to do
    assert [path.stat().st_mtime_ns for path in images] == written
