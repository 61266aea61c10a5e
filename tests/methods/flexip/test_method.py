"""FlexIP as a method of the harness, from files on disk to images, tables and curves."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from idbench.cli import main
from idbench.methods.common.weight_sources import MissingWeightsError
from idbench.methods.conformance.kit import check_named
from idbench.methods.flexip.method import FlexIP, references_of
from idbench.methods.protocol import Failure, Method, Reference, Request
from idbench.methods.registry import build, method_info
from idbench.metrics.registry import missing_requirements
from idbench.store import load_frame

needs_embedded = pytest.mark.skipif(
    bool(missing_requirements("mtcnn")), reason="needs the embedded extractors"
)
SMALL = {"num_inference_steps": 2, "height": 64, "width": 64}


@pytest.fixture(scope="module")
def method(tiny_files):
    return FlexIP(weights=tiny_files.base.parent, **SMALL)


def reference(picture, person=0, role="subject"):
    digest = hashlib.sha256(picture.tobytes()).hexdigest()
    return Reference(image=picture, sha256=digest, role=role, person=person)


def request(*references, **settings):
    given = {"case_id": "c", "sample": 0, "seed": 5, "prompt": "a cup", "kind": "subject"}
    return Request(references=references, **given | settings)


def pixels(image):
    return np.asarray(image).astype(int)


def test_it_keeps_the_contract(tiny_files):
    args = {"weights": str(tiny_files.base.parent), "num_inference_steps": 1}
    checks = list(check_named("flexip", args))
    failed = [check for check in checks if check.passed is False]
    assert not failed
    assert {"batch", "order", "fresh_process", "references", "failure"} <= {c.name for c in checks}


def test_the_table_says_what_the_class_says(method):
    info = method_info("flexip")
    assert set(info.kinds) == set(method.capabilities.kinds)
    assert isinstance(method, Method)


def test_the_image_is_that_of_the_pipeline(method, pictures, generator, subjects):
    (found,) = method.generate([request(reference(pictures[0]))])
    expected = method.pipeline(["a cup"], subjects[:1], [generator(5)]).images[0]
    assert np.array_equal(pixels(found), pixels(expected))


def test_arguments_come_as_text(tiny_files):
    built = build(
        "flexip",
        {
            "weights": str(tiny_files.base.parent),
            "gamma": "0.25",
            "layer_gamma": '{"mid_block": 1.0}',
            "exact_batches": "false",
        },
    )
    assert (built.gamma, built.layer_gamma, built.exact_batches) == (
        0.25,
        {"mid_block": 1.0},
        False,
    )
    with pytest.raises(ValueError, match=r"'flexip': gamma must be in \[0, 1\]"):
        build("flexip", {"gamma": "2"})


def test_batches_that_are_not_exact_are_close(tiny_files, method, pictures):
    fast = FlexIP(weights=tiny_files.base.parent, exact_batches=False, **SMALL)
    asked = [request(reference(pictures[n % 2]), seed=n) for n in range(3)]
    asked.append(request(*(reference(picture) for picture in pictures)))
    for one, two in zip(method.generate(asked), fast.generate(asked), strict=True):
        assert np.abs(pixels(one) - pixels(two)).max() <= 1


def test_several_references_of_one_subject_are_all_used(method, pictures):
    one, two = (reference(picture) for picture in pictures)
    alone, both = method.generate([request(one), request(one, two)])
    assert not np.array_equal(pixels(alone), pixels(both))


def test_references_of_other_subjects_and_of_style_are_not_used(pictures):
    one, two = (reference(picture) for picture in pictures)
    style, other = replace(two, role="style"), replace(two, person=1)
    assert references_of(request(style, one, other)) == [one]
    assert references_of(request(replace(one, role="wearing"), replace(two, role="wearing"))) != []
    assert references_of(request()) == []


def test_a_mask_is_found_by_the_digest_of_the_reference(tiny_files, method, pictures, tmp_path):
    one = reference(pictures[0])
    mask = Image.new("L", one.image.size, 0)
    mask.paste(255, (128, 128, 384, 384))
    mask.save(tmp_path / f"{one.sha256}.png")
    masked = FlexIP(weights=tiny_files.base.parent, masks=tmp_path, **SMALL)
    whole, cut = (made.generate([request(one)])[0] for made in (method, masked))
    assert not np.array_equal(pixels(whole), pixels(cut))
    two = reference(pictures[1])
    same = [made.generate([request(two)])[0] for made in (method, masked)]
    assert np.array_equal(*map(pixels, same))  # it has no mask
    assert masked.fingerprint() != method.fingerprint()
    with pytest.raises(ValueError, match="masks must be a folder"):
        FlexIP(masks=tmp_path / "nowhere")


def test_what_cannot_be_made_is_a_failure_of_that_request_alone(method, pictures):
    good = request(reference(pictures[0]))
    answers = method.generate([good, request(), replace(good, width=100, height=64), good])
    assert [isinstance(answer, Failure) for answer in answers] == [False, True, True, False]
    assert "no reference" in answers[1].detail
    assert "multiple of 8" in answers[2].detail


def test_every_file_and_parameter_is_part_of_the_fingerprint(tiny_files, method):
    weights = method.fingerprint()["weights"]
    assert set(weights) == {
        *(f"base/{part}" for part in ("unet", "vae", "text_encoder", "tokenizer")),
        "clip",
        "dino",
        "adapter",
    }
    other = FlexIP(weights=tiny_files.base.parent, **SMALL | {"gamma": 0.6})
    assert other.fingerprint() != method.fingerprint()
    json.dumps(other.fingerprint())


def test_absent_weights_are_named(tmp_path):
    with pytest.raises(MissingWeightsError, match="idbench train flexip"):
        FlexIP(weights=tmp_path).fingerprint()


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("IDBENCH_DATA", str(tmp_path / "data"))
    return tmp_path / "runs"


@pytest.fixture
def metric_weights(tmp_path, monkeypatch):
    """Tiny random networks of CLIP-T and DINO in the weights folder, in their official formats."""
    import open_clip
    import torch
    from safetensors.torch import save_file
    from transformers import Dinov2Config, Dinov2Model

    monkeypatch.setenv("IDBENCH_WEIGHTS_DIR", str(tmp_path / "weights"))
    dino, clip = (tmp_path / "weights" / name for name in ("dinov2_small", "clip_h14"))
    for folder in (dino, clip):
        folder.mkdir(parents=True)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Dinov2Config(**sizes, image_size=56, patch_size=56)
    config.to_json_file(dino / "config.json")
    save_file(Dinov2Model(config).state_dict(), dino / "model.safetensors")
    model = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 224, "layers": 2, "width": 64, "patch_size": 56},
        "text_cfg": {"width": 32, "heads": 2, "layers": 2},
    }
    (clip / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))
    save_file(open_clip.CLIP(**model).state_dict(), clip / "open_clip_model.safetensors")


def trained_by_the_verb(configure):
    """The folder of an adapter that `idbench train flexip` made in two steps."""
    path = configure("trained", steps=2)
    assert main(["train", "flexip", str(path)]) == 0
    return path.parent / "trained" / "adapter"


@needs_embedded
def test_from_training_to_a_table(configure, tiny_files, workspace, capsys):
    adapter = trained_by_the_verb(configure)
    assert "step 2/2" in capsys.readouterr().out
    arguments = ["run", "--suite", "tiny-subject", "--method", "flexip", "--limit", "2"]
    arguments += ["--metrics", "n_faces", "--workers", "1", "--output", str(workspace)]
    arguments += ["--method-args", f"weights={tiny_files.base.parent}", f"adapter={adapter}"]
    arguments += [f"{key}={value}" for key, value in SMALL.items()]
    assert main(arguments) == 0
    assert "2/2" in capsys.readouterr().out
    frame, _ = load_frame([workspace])
    assert frame["case_id"].nunique() == 2
    images = sorted(workspace.rglob("*.png"))
    assert len(images) == 2
    written = [path.stat().st_mtime_ns for path in images]
    assert main(arguments) == 0  # there is nothing left to do
    assert [path.stat().st_mtime_ns for path in images] == written


def test_a_sweep_over_gamma_is_a_table_and_a_curve(tiny_files, workspace, metric_weights, capsys):
    arguments = ["sweep", "--suite", "tiny-subject", "--method", "flexip", "--limit", "2"]
    arguments += ["--over", "gamma=0:1:0.5", "--workers", "1", "--output", str(workspace)]
    arguments += ["--metrics", "dino@strict[dinov2-small],clip_t@strict[clip-h14]"]
    arguments += ["--x", "dino@strict[dinov2-small]", "--y", "clip_t@strict[clip-h14]"]
    arguments += ["--method-args", f"weights={tiny_files.base.parent}"]
    arguments += [f"{key}={value}" for key, value in SMALL.items()]
    assert main(arguments) == 0
    table = capsys.readouterr().out
    for gamma in ("0.0", "0.5", "1.0"):
        assert f"gamma={gamma}" in table
    frame, _ = load_frame([workspace])
    similarity = frame[frame["column"].str.startswith("dino")].groupby("run")["value"].mean()
    assert len(similarity) == similarity.nunique() == 3
    assert np.isfinite(similarity).all()
    with Image.open(workspace / "sweep-flexip-gamma.png") as plot:
        assert np.asarray(plot.convert("L")).std() > 0
    drawn = (workspace / "sweep-flexip-gamma.csv").read_text()
    assert all(f"gamma={gamma}" in drawn for gamma in ("0.0", "0.5", "1.0"))


@needs_embedded
def test_training_asks_the_harness_for_scores(configure, workspace, capsys):
    validation = {
        "every": 2,
        "suite": "tiny-subject",
        "metrics": ["n_faces"],
        "gammas": [0.0, 1.0],
        "limit": 1,
        "settings": SMALL,
    }
    path = configure("watched", steps=2, validation=validation)
    assert main(["train", "flexip", str(path)]) == 0
    folder = path.parent / "watched"
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    scores = {key: value for key, value in lines[1].items() if key.startswith("n_faces")}
    assert set(lines[0]) == {"step", "loss", "loss_invariant", "loss_variant"}
    coverage = {key: value for key, value in scores.items() if "coverage" in key}
    assert {key.rpartition(" ")[2] for key in coverage} == {"gamma=0", "gamma=1"}
    assert set(coverage.values()) == {1.0}
    assert (folder / "validation" / "step-00000002" / "adapter" / "config.json").is_file()
    plain = configure("plain", steps=2)
    assert main(["train", "flexip", str(plain)]) == 0
    one, two = (folder.parent / name / "adapter" for name in ("watched", "plain"))
    files = [next(path.glob("*.safetensors")).read_bytes() for path in (one, two)]
    assert files[0] == files[1]  # looking changes nothing


def test_the_verb_says_what_is_wrong(configure, tmp_path, capsys):
    assert main(["train", "flexip", str(configure(gamma=1))]) == 2
    assert "unknown settings gamma" in capsys.readouterr().err
    assert main(["train", "flexip-shards", str(tmp_path / "absent.yaml")]) == 2
