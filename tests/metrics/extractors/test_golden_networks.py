"""Networks and preprocessing against what the public code computed."""

import hashlib

import numpy as np
import pytest
import torch

from idbench.metrics.extractors import preprocess
from idbench.metrics.extractors.clip_text import ClipTokens
from idbench.metrics.extractors.face_crop import crop_pm30
from idbench.metrics.extractors.fer_vgg19 import CROP, FerVGG19
from idbench.metrics.extractors.hopenet import HopenetModule
from idbench.metrics.extractors.inception import FidInception, inception_input
from idbench.metrics.extractors.insightface import aligned_face, arcface_input
from idbench.metrics.extractors.preprocess import ten_crops

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def phase(core):
    return 0.25 * core["seed"]


@pytest.fixture(scope="module")
def picture(closed_forms, core, phase):
    return closed_forms.named_image(core["clip_preprocess"]["image"], phase)


def every_eighth(tensor):
    return tensor[:, ::8, ::8].numpy()


@pytest.mark.parametrize(
    ("name", "prepare"),
    [
        ("clip.ibench_tensor_path_antialias_default_stride8", preprocess.clip_ibench),
        (
            "clip.ibench_tensor_path_antialias_false_stride8",
            lambda image: preprocess.clip_ibench(image, antialias=False),
        ),
        ("clip.pil_path_stride8", preprocess.clip_pil),
        ("aesthetic.transform_stride8", preprocess.clip_aesthetic),
        ("dino.processor_pil_stride8", preprocess.dinov2_pil),
        ("hopenet.input_stride8", preprocess.hopenet),
    ],
)
def test_preprocessing(picture, core_arrays, name, prepare):
    np.testing.assert_allclose(every_eighth(prepare(picture)), core_arrays[name], atol=2e-4)


def test_clip_preprocessing_over_the_whole_input(picture, core):
    record = core["clip_preprocess"]
    default = preprocess.clip_ibench(picture)
    without = preprocess.clip_ibench(picture, antialias=False)
    pil = preprocess.clip_pil(picture)
    assert float(default.mean()) == pytest.approx(record["mean_default"], rel=1e-5)
    assert float(without.mean()) == pytest.approx(record["mean_noaa"], rel=1e-5)
    assert float(pil.mean()) == pytest.approx(record["mean_pil"], rel=1e-5)
    largest = float((default - pil).abs().max())
    assert largest == pytest.approx(record["max_abs_default_vs_pil"], abs=2e-4)
    largest = float((without - pil).abs().max())
    assert largest == pytest.approx(record["max_abs_noaa_vs_pil"], abs=2e-4)


def test_dino_preprocessing_over_the_whole_input(picture, core):
    mean = float(preprocess.dinov2_pil(picture).mean())
    assert mean == pytest.approx(core["dino_processor"]["mean_pil"], rel=1e-5)


def test_hopenet_logits(closed_forms, core, phase, core_arrays):
    (size,) = [key.rsplit("_", 1)[1] for key in core if key.startswith("hopenet_detfill_image_")]
    picture = closed_forms.image(*map(int, size.split("x")), phase)
    network = closed_forms.fill_module(HopenetModule().eval(), phase)
    with torch.no_grad():
        logits = network(preprocess.hopenet(picture)[None])[0].numpy()
    expected = [core_arrays[f"hopenet.{axis}_logits"][0] for axis in ("yaw", "pitch", "roll")]
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_fer_vgg19_logits_of_ten_crops(closed_forms, core, phase):
    network = closed_forms.fill_module(FerVGG19().eval(), phase)
    for record in core["exprdiv_vgg19_tencrop"]:
        crops = ten_crops(closed_forms.image(record["h"], record["w"], record["phase"]), CROP)
        np.testing.assert_allclose(crops.mean((1, 2, 3)), record["crop_means"], rtol=1e-5)
        with torch.no_grad():
            logits = network(crops[None])[0].numpy()
        np.testing.assert_allclose(logits, record["mean_logits"], atol=1e-2)
        assert int(logits.argmax()) == record["argmax"]


def test_an_image_smaller_than_the_crops_raises_as_in_the_original(closed_forms, core):
    error = {"ValueError": ValueError}[core["exprdiv_image_smaller_than_44"]]
    with pytest.raises(error, match="44"):
        ten_crops(closed_forms.image(43, 60, 0.0), CROP)


def test_inception_features(closed_forms, core, core_arrays, phase):
    network = closed_forms.fill_module(FidInception().eval(), phase)
    image = closed_forms.named_image(core["fid_inception_detfill"]["image"], phase)
    with torch.no_grad():
        features = network(inception_input(image)[None])[0].numpy()
    expected = core_arrays["fid.inception_detfill_pool3"]
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-3 * expected.max())


def test_crop_with_thirty_pixels(closed_forms, core, phase):
    image = closed_forms.image(120, 100, phase)
    for record in core["crop_pm30"]:
        crop = crop_pm30(image, np.array(record["box"]))
        assert [crop.shape[1], crop.shape[0]] == record["size_wh"]
        assert hashlib.sha256(crop.tobytes()).hexdigest() == record["sha256"]


def test_aligned_face(closed_forms, core, core_arrays, phase):
    record = core["arcface_norm_crop"]
    image = closed_forms.named_image(record["image"], phase)
    aligned = aligned_face(image, np.array(record["landmarks"]))
    difference = aligned.astype(int) - core_arrays["align.norm_crop_112"].astype(int)
    assert np.abs(difference).max() <= 1


def test_arcface_input_range(core):
    pixels = np.array([0, 128, 255], np.uint8).reshape(1, 1, 3)
    expected = core["arcface_blob"]["example"]
    np.testing.assert_allclose(arcface_input(pixels)[:, 0, 0], expected, rtol=1e-6)


def test_clip_tokens(core):
    tokens = ClipTokens()
    record = core["clip_tokens"]
    for prompt in record["prompts"]:
        body = tokens.body(prompt["text"])
        assert len(body) == prompt["n_tokens_body"]
        assert tokens.windows(prompt["text"]) == prompt["chunks75"]
        ids = tokens.truncated(prompt["text"])
        assert ids[: len(prompt["ids77"])] == prompt["ids77"]
        assert ids[0] == record["sot"]
        assert ids[min(len(body) + 1, 76)] == record["eot"]
