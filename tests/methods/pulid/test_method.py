import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from idbench.methods.baselines.flux_dev import FluxDev
from idbench.methods.common.weight_sources import MissingWeightsError
from idbench.methods.protocol import Failure, Method, Reference
from idbench.methods.pulid.pipeline import ConstantWeight, PuLIDFlux

# the libraries' own: torchvision inside facexlib, scikit-image inside insightface
pytestmark = [
    pytest.mark.filterwarnings("ignore:The parameter 'pretrained' is deprecated:UserWarning"),
    pytest.mark.filterwarnings("ignore:Arguments other than a weight enum:UserWarning"),
    pytest.mark.filterwarnings("ignore:`estimate` is deprecated:FutureWarning"),
]

SMALL = {"width": 64, "height": 48, "num_inference_steps": 3, "max_sequence_length": 24}


@pytest.fixture(scope="module")
def method(tiny_flux_weights):
    return PuLIDFlux(weights=tiny_flux_weights, **SMALL)


@pytest.fixture(scope="module")
def base(tiny_flux_weights):
    return FluxDev(weights=tiny_flux_weights, guidance_scale=4.0, **SMALL)


def again(method, **changes):
    """The method with other settings on the networks that are loaded already."""
    other = dataclasses.replace(method, **changes)
    pipeline = object.__new__(type(method.pipeline))
    pipeline.__dict__.update(method.pipeline.__dict__)
    pipeline.config = other
    backbone = object.__new__(type(pipeline.backbone))
    backbone.__dict__.update(pipeline.backbone.__dict__)
    backbone.config = other
    pipeline.backbone = backbone
    other.__dict__["pipeline"] = pipeline
    return other


def pixels(image):
    assert isinstance(image, Image.Image), image
    return np.asarray(image).astype(int)


def latents(method, requests, **settings):
    """Latents after the last step of one batch."""
    method = again(method, **settings)
    pipeline = method.pipeline
    identities = [pipeline.encode_identity(request.references[0]) for request in requests]
    seen = []
    pipeline(
        [request.prompt for request in requests],
        [request.seed for request in requests],
        torch.cat([identity.tokens for identity in identities]),
        width=64,
        height=48,
        plan=ConstantWeight(method.id_weight, method.start_step),
        on_step=lambda step, latents: seen.append(latents),
    )
    return seen[-1]


def test_it_is_a_method(method):
    assert isinstance(method, Method)
    assert isinstance(method, type(method))
    fingerprint = json.loads(json.dumps(method.fingerprint()))
    assert fingerprint["parameters"]["max_sequence_length"] == 24
    assert set(fingerprint["weights"]) == {
        "model",
        "pulid",
        "eva",
        "scrfd",
        "glintr100",
        "retinaface",
        "bisenet",
    }


def test_the_same_request_gives_the_same_image(method, portrait_request):
    request = portrait_request(1, seed=3)
    (first,), (second,) = method.generate([request]), method.generate([request])
    assert first.size == (64, 48)
    assert np.array_equal(pixels(first), pixels(second))


def test_identity_seed_and_prompt_each_change_the_image(method, portrait_request):
    images = method.generate(
        [
            portrait_request(1, seed=3),
            portrait_request(2, seed=3),
            portrait_request(1, seed=4),
            portrait_request(1, seed=3, prompt="a running man"),
        ]
    )
    first, *others = (pixels(image) for image in images)
    assert all(np.abs(first - other).max() > 2 for other in others)


def test_a_batch_in_one_forward_equals_single_runs(method, portrait_request):
    requests = [
        portrait_request(1, seed=3, prompt="a man"),
        portrait_request(2, seed=4, prompt="a longer prompt about a woman"),
    ]
    together = latents(method, requests)
    for index, request in enumerate(requests):
        alone = latents(method, [request])
        torch.testing.assert_close(together[index : index + 1], alone, atol=1e-4, rtol=0)


def test_images_of_a_shared_forward_are_those_of_single_ones(method, portrait_request):
    requests = [portrait_request(person, seed=person) for person in (1, 2)]
    together = again(method, exact_batches=False).generate(requests)
    for ours, alone in zip(together, method.generate(requests), strict=True):
        assert np.abs(pixels(ours) - pixels(alone)).max() <= 1


def test_weight_zero_is_the_base_model_bit_for_bit(method, base, portrait_request):
    request = portrait_request(1, seed=3)
    assert torch.equal(
        latents(method, [request], id_weight=0.0),
        latents(method, [request], start_step=SMALL["num_inference_steps"]),
    )
    (ours,) = again(method, id_weight=0.0).generate([request])
    (plain,) = base.generate([request])
    assert np.array_equal(pixels(ours), pixels(plain))


def test_the_loop_equals_the_pipeline_of_diffusers(base, portrait_request):
    request = portrait_request(1, seed=3)
    pipe = base.backbone.pipe
    expected = pipe(
        request.prompt,
        width=64,
        height=48,
        num_inference_steps=3,
        guidance_scale=4.0,
        max_sequence_length=24,
        generator=torch.Generator().manual_seed(3),
    ).images[0]
    rounded = dataclasses.replace(base, timestep_rounding="diffusers")
    rounded.__dict__["backbone"] = base.backbone
    (ours,) = rounded.generate([request])
    assert np.array_equal(pixels(ours), pixels(expected))


def test_true_guidance_runs_with_an_identity_of_its_own(method, portrait_request):
    request = portrait_request(1, seed=3)
    plain = latents(method, [request])
    guided = latents(method, [request], true_cfg_scale=2.0)
    assert not torch.allclose(plain, guided)
    # before its first step, true guidance changes nothing
    late = latents(method, [request], true_cfg_scale=2.0, cfg_start_step=3)
    assert torch.equal(late, plain)


def test_the_request_states_the_size(method, portrait_request):
    (image,) = method.generate([portrait_request(1, width=32, height=80)])
    assert image.size == (32, 80)


def test_a_size_that_flux_cannot_make_fails_alone(method, portrait_request):
    bad, good = method.generate([portrait_request(1, width=70), portrait_request(1)])
    assert bad == Failure(
        "bad_size", "width and height must be positive multiples of 16, got 70x48"
    )
    assert good.size == (64, 48)


def test_a_request_without_photo_fails_alone(method, portrait_request):
    missing, good = method.generate([portrait_request(1, references=()), portrait_request(1)])
    assert missing.reason == "no_reference"
    assert good.size == (64, 48)


def test_a_dark_photo_is_embedded_from_its_crop(method):
    # SCRFD of the tiny files sees no face without a bright patch, RetinaFace always does
    photo = Reference(image=Image.new("RGB", (160, 160)), sha256="dark")
    assert method.pipeline.encode_identity(photo).fallback


def test_photos_are_encoded_once(method, portrait_request, monkeypatch):
    request = portrait_request(1)
    first = method.pipeline.encode_identity(request.references[0])
    monkeypatch.setattr(method.pipeline, "extractor", None)
    assert method.pipeline.encode_identity(request.references[0]) is first


def test_missing_weights_say_how_to_get_them(tmp_path):
    method = PuLIDFlux(weights=tmp_path)
    with pytest.raises(MissingWeightsError, match="hf download black-forest-labs"):
        method.fingerprint()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"id_weight": 3.5}, r"id_weight must be in \[0, 3\], got 3.5"),
        ({"start_step": -1}, "start_step must be at least 0, got -1"),
        ({"width": 100}, "multiples of 16, got 100x1152"),
        ({"num_inference_steps": 0}, "at least 1, got 0"),
        ({"max_sequence_length": 513}, r"in \[1, 512\], got 513"),
    ],
)
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        PuLIDFlux(**setting)


@pytest.mark.parametrize("offload", ["model", "group"])
def test_offloading_moves_no_pixel(method, tiny_flux_weights, portrait_request, offload):
    request = portrait_request(1, seed=3)
    offloaded = PuLIDFlux(weights=tiny_flux_weights, offload=offload, **SMALL)
    offloaded.__dict__["pipeline"] = load_without_photos(offloaded, method)
    (image,), (expected,) = offloaded.generate([request]), method.generate([request])
    assert np.array_equal(pixels(image), pixels(expected))


def load_without_photos(other, method):
    """A pipeline of other settings; photos are encoded by `method`, which takes a while."""
    from idbench.methods.pulid import pipeline as module

    original, module.load_extractor = module.load_extractor, lambda _: method.pipeline.extractor
    try:
        pipeline = module.load_pipeline(other)
    finally:
        module.load_extractor = original
    pipeline._encoded = method.pipeline._encoded
    return pipeline


def test_eight_bit_storage_stays_close(method, tiny_flux_weights, portrait_request):
    request = portrait_request(1, seed=3)
    small = PuLIDFlux(weights=tiny_flux_weights, quantization="fp8", **SMALL)
    small.__dict__["pipeline"] = load_without_photos(small, method)
    weight = small.pipeline.backbone.transformer.transformer_blocks[0].attn.to_q.weight
    assert weight.dtype == torch.float8_e4m3fn
    (image,), (expected,) = small.generate([request]), method.generate([request])
    # three bits of mantissa: the weights are off by up to 6 %, the image by a few grey levels
    assert 0 < np.abs(pixels(image) - pixels(expected)).mean() < 40


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_a_single_file_is_not_quantized_by_bitsandbytes(tiny_flux_weights, quantization):
    file = tiny_flux_weights / "flux-dev/transformer/diffusion_pytorch_model.safetensors"
    method = PuLIDFlux(
        weights=tiny_flux_weights, transformer=file, quantization=quantization, **SMALL
    )
    with pytest.raises(ValueError, match=r"as a folder in diffusers' layout, got .*; use 'fp8'"):
        method.pipeline  # noqa: B018  # reads the files


def test_bfloat16_runs(method, tiny_flux_weights, portrait_request):
    half = PuLIDFlux(weights=tiny_flux_weights, dtype="bfloat16", **SMALL)
    half.__dict__["pipeline"] = load_without_photos(half, method)
    (image,) = half.generate([portrait_request(1, seed=3)])
    assert pixels(image).std() > 0
