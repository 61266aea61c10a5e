"""From files on disk to a table, and from pictures to trained weights to an image."""

import json

import numpy as np
import pytest
from PIL import Image

from idbench.cli import main
from idbench.metrics.registry import missing_requirements
from idbench.store import load_frame


@pytest.mark.skipif(bool(missing_requirements("dlib_face")), reason="needs the embedded extractors")
@pytest.mark.parametrize("suite", ["tiny-single", "tiny-multi"])
def test_a_tiny_model_is_run_scored_and_tabulated(suite, tiny_files, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IDBENCH_DATA", str(tmp_path / "data"))
    arguments = ["run", "--suite", suite, "--method", "dynamicid", "--limit", "2"]
    arguments += ["--size", "64x64", "--workers", "1", "--output", str(tmp_path / "runs")]
    arguments += ["--method-args", f"weights={tiny_files.base.parent}", "num_inference_steps=2"]
    assert main(arguments) == 0
    table = capsys.readouterr().out
    assert "dynamicid" in table
    assert "2/2" in table  # the number of faces is known of both images
    frame, *_ = load_frame([tmp_path / "runs"])
    assert frame["case_id"].nunique() == 2
    images = sorted((tmp_path / "runs").rglob("*.png"))
    assert len(images) == 2
    written = [path.stat().st_mtime_ns for path in images]
    assert main(arguments) == 0  # there is nothing left to do
    assert [path.stat().st_mtime_ns for path in images] == written


def test_trained_weights_make_an_image(tiny_files, tmp_path, astronaut, capsys):
    """Both stages by their verb, then the method with what they wrote."""
    from idbench.methods.dynamicid.faces import FaceAnalyser
    from idbench.methods.dynamicid.method import DynamicID
    from idbench.methods.dynamicid.variface import write_landmarks
    from idbench.methods.protocol import Person, Reference, Request

    weights = tiny_files.base.parent
    analyser = FaceAnalyser(tiny_files.face_models)
    folder = tmp_path / "variface" / "0"
    folder.mkdir(parents=True)
    captions = []
    for number, word in enumerate(("happy", "sad", "angry")):
        path = folder / f"{number}.png"
        astronaut.crop((20 * number, 0, 20 * number + 400, 400)).resize((96, 96)).save(path)
        path.with_suffix(".txt").write_text(f"in a {word} expression")
        write_landmarks(path, analyser)
        captions.append({"image_file": str(path), "text": f"a {word} astronaut"})
    (tmp_path / "captions.json").write_text(json.dumps(captions))
    common = {"weights": str(weights), "steps": 2, "resolution": 64, "device": "cpu"}
    anchoring = {**common, "output": "saa", "data": "captions.json", "lora_rank": 4}
    (tmp_path / "saa.yaml").write_text(json.dumps({**anchoring, "batch_size": 2}))
    reconfiguration = {**common, "output": "imr", "data": "variface", "imr_dim": 64}
    reconfiguration |= {"saa": "saa/SAA.safetensors", "targets_per_step": 2}
    reconfiguration |= {"keypoint_width_divisor": 8}
    (tmp_path / "imr.yaml").write_text(json.dumps(reconfiguration))
    assert main(["train", "dynamicid-saa", str(tmp_path / "saa.yaml")]) == 0
    assert main(["train", "dynamicid-imr", str(tmp_path / "imr.yaml")]) == 0
    assert "step 2/2" in capsys.readouterr().out
    method = DynamicID(
        weights=weights,
        saa=tmp_path / "saa" / "SAA.safetensors",
        imr=tmp_path / "imr" / "IMR.safetensors",
        num_inference_steps=2,
        height=64,
        width=64,
    )
    request = Request(
        case_id="c",
        sample=0,
        seed=0,
        prompt="an astronaut",
        references=(Reference(image=astronaut, sha256=""),),
        people=(Person(expression="happy", orientation="side"),),
    )
    (image,) = method.generate([request])
    assert isinstance(image, Image.Image)
    assert np.asarray(image).std() > 0


def test_the_verbs_say_what_is_wrong(tmp_path, capsys):
    assert main(["train", "dynamicid-saa", str(tmp_path / "absent.yaml")]) == 2
    (tmp_path / "saa.yaml").write_text("steps: 1\nlearning: 2\n")
    assert main(["train", "dynamicid-saa", str(tmp_path / "saa.yaml")]) == 2
    assert "learning" in capsys.readouterr().err
