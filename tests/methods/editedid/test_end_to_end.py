"""From files on disk through the engine to scores and a table."""

import numpy as np
import pytest
from PIL import Image

from idbench.cli import main
from idbench.metrics.registry import missing_requirements
from idbench.store import load_frame


@pytest.mark.skipif(bool(missing_requirements("dlib_face")), reason="needs the embedded extractors")
def test_a_tiny_model_is_run_scored_and_tabulated(tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IDBENCH_DATA", str(tmp_path / "data"))
    arguments = ["run", "--suite", "tiny-edit", "--method", "editedid"]
    arguments += ["--limit", "2", "--workers", "1", "--output", str(tmp_path / "runs")]
    arguments += ["--metrics", "facesim@strict[dlib],n_faces"]
    arguments += ["--method-args", f"base={tiny_model}", "num_inference_steps=2"]
    arguments += ["null_mode=prompt", "detector=none"]
    assert main(arguments) == 0
    table = capsys.readouterr().out
    assert "editedid" in table
    frame, _ = load_frame([tmp_path / "runs"])
    assert frame["case_id"].nunique() == 2
    assert "2/2" in table  # the number of faces is known of both images
    images = sorted((tmp_path / "runs").rglob("*.png"))
    assert len(images) == 2
    pictures = [np.asarray(Image.open(path)) for path in images]
    assert all(picture.std() > 0 for picture in pictures)
    written = [path.stat().st_mtime_ns for path in images]
    assert main(arguments) == 0  # there is nothing left to do
    assert [path.stat().st_mtime_ns for path in images] == written
