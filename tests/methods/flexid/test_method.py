import dataclasses
import json
import logging
from importlib.resources import files

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from PIL import Image

from idbench.methods.baselines.flux_dev import FluxDev
from idbench.methods.common.weight_sources import MissingWeightsError
from idbench.methods.flexid.method import FlexID
from idbench.methods.flexid.stepping import StepText, StepWeights, step_end_callback
from idbench.methods.protocol import NOTES, Method
from idbench.methods.pulid.injection import Identity, injected_blocks
from idbench.methods.pulid.pipeline import ConstantWeight, PuLIDFlux
from idbench.methods.registry import build

# the libraries' own: torchvision inside facexlib, scikit-image inside insightface
pytestmark = [
    pytest.mark.filterwarnings("ignore:The parameter 'pretrained' is deprecated:UserWarning"),
    pytest.mark.filterwarnings("ignore:Arguments other than a weight enum:UserWarning"),
    pytest.mark.filterwarnings("ignore:`estimate` is deprecated:FutureWarning"),
]

STEPS = 3
SIZE = {"width": 64, "height": 48}
SMALL = {**SIZE, "num_inference_steps": STEPS, "max_sequence_length": 24}
EDIT, PLAIN = "a man smiling", "a portrait"


@pytest.fixture(scope="module")
def method(flexid_weights):
    return FlexID(weights=flexid_weights, **SMALL)


@pytest.fixture(scope="module")
def flux(flexid_weights):
    """Diffusers' own pipeline, without any hook."""
    return FluxDev(weights=flexid_weights, **SMALL).backbone.pipe


def again(method, kind=FlexID, **changes):
    """The method with other settings, or another one, on the networks that are loaded already."""
    common = {f.name for f in dataclasses.fields(kind)}
    given = {key: value for key, value in dataclasses.asdict(method).items() if key in common}
    other = kind(**{**given, **changes})
    pipeline = object.__new__(type(method.pipeline))
    pipeline.__dict__.update(method.pipeline.__dict__)
    backbone = object.__new__(type(pipeline.backbone))
    backbone.__dict__.update(pipeline.backbone.__dict__)
    pipeline.config = backbone.config = other
    pipeline.backbone = backbone
    other.__dict__["pipeline"] = pipeline
    if kind is FlexID and not {"sip_encoder", "visual_proj"} & changes.keys():
        projector = dataclasses.replace(method.projector, kind=other.sip_delta, norm=other.sip_norm)
        other.__dict__["projector"] = projector
    return other


class Seen:
    """What goes into the transformer at each pass, and the latents after each step."""

    def __init__(self):
        self.text, self.pooled, self.latents = [], [], []

    def before(self, module, args, kwargs):
        self.text.append(kwargs["encoder_hidden_states"])
        self.pooled.append(kwargs["pooled_projections"])


def watch(method, requests, **changes):
    """Answers of one forward for all requests, with what was seen on the way."""
    method = again(method, exact_batches=False, **changes)
    seen, pipeline = Seen(), method.pipeline
    scheduler = pipeline.backbone.scheduler

    def watched(tokens):
        found = scheduler(tokens)
        step = found.step

        def taking(*args, **kwargs):
            out = step(*args, **kwargs)
            seen.latents.append(out[0])
            return out

        found.step = taking
        return found

    pipeline.backbone.scheduler = watched
    handle = pipeline.backbone.transformer.register_forward_pre_hook(seen.before, with_kwargs=True)
    try:
        seen.answers = method.generate(requests)
    finally:
        handle.remove()
    return seen


def same(one, two):
    return len(one) == len(two) and all(map(torch.equal, one, two))


def test_it_is_a_method(method):
    assert isinstance(method, Method)
    fingerprint = json.loads(json.dumps(method.fingerprint()))
    assert fingerprint["sip"] == "facet5"
    assert {"pulid", "face_t5", "model"} <= fingerprint["weights"].keys()
    assert fingerprint["lexicon"] == method.parser.lexicon.sha256
    assert "clip" not in fingerprint["weights"]


def test_without_weights_it_is_base_flux_bit_for_bit(method, flux, portrait_request):
    latents = []

    def keep(pipe, step, timestep, tensors):
        latents.append(tensors["latents"])
        return {}

    flux(
        EDIT,
        **SIZE,
        num_inference_steps=STEPS,
        guidance_scale=4.0,
        max_sequence_length=24,
        generator=torch.Generator().manual_seed(3),
        callback_on_step_end=keep,
        output_type="latent",
    )
    request = portrait_request(1, seed=3, prompt=EDIT)
    rounding = {"timestep_rounding": "diffusers"}
    off = watch(method, [request], alpha_base=0.0, id_weight=0.0, **rounding)
    assert len(latents) == STEPS
    assert same(off.latents, latents)
    switched = watch(method, [request], sip="off", vfa=False, **rounding)
    assert same(switched.latents, latents)
    assert not same(watch(method, [request], **rounding).latents, latents)


def test_static_weights_without_text_are_pulid_bit_for_bit(method, portrait_request):
    request = portrait_request(1, seed=3, prompt=EDIT)
    ours = watch(method, [request], alpha_base=0.0, cag=False, id_weight=1.0)
    pulid = again(method, PuLIDFlux, start_step=0, id_weight=1.0)
    (image,) = pulid.generate([request])
    assert np.array_equal(np.asarray(ours.answers[0]), np.asarray(image))
    latents = []
    identity = pulid.pipeline.encode_identity(request.references[0])
    pulid.pipeline(
        [EDIT], [3], identity.tokens, **SIZE,
        plan=ConstantWeight(1.0, 0), on_step=lambda step, x: latents.append(x),
    )  # fmt: skip
    assert same(ours.latents, latents)


def test_the_text_moves_by_alpha_at_every_step(method, portrait_request):
    seen = watch(method, [portrait_request(1, prompt=EDIT)])
    text, pooled = method.pipeline.backbone.encode_prompt([EDIT])
    alpha = seen.answers[0].info[NOTES]["alpha"]
    # equation (1): 0.1, edit intent 1.5, 2 t at the middles of three steps
    np.testing.assert_allclose(alpha, [0.15 * 5 / 3, 0.15, 0.15 / 3])
    ratios = [float((step - text).double().norm() / text.double().norm()) for step in seen.text]
    np.testing.assert_allclose(ratios, alpha, rtol=1e-5)
    assert all(torch.equal(found, pooled) for found in seen.pooled)


def test_the_second_pass_keeps_its_text_and_has_the_same_weight(method, portrait_request):
    settings = {"true_cfg_scale": 2.0, "cfg_start_step": 0}
    weights = []
    injector = method.pipeline.injector
    handle = method.pipeline.backbone.transformer.register_forward_pre_hook(
        lambda *_: weights.append(injector.id_weight.item())
    )
    try:
        seen = watch(method, [portrait_request(1, prompt=EDIT)], **settings)
    finally:
        handle.remove()
    texts, pooled = method.pipeline.backbone.encode_prompt([method.negative_prompt])
    assert len(seen.text) == 2 * STEPS
    assert all(torch.equal(found, texts) for found in seen.text[1::2])
    assert all(torch.equal(found, pooled) for found in seen.pooled[1::2])
    assert not torch.equal(seen.text[0], seen.text[1])
    assert weights[::2] == weights[1::2]
    np.testing.assert_allclose(weights[::2], seen.answers[0].info[NOTES]["w"], rtol=1e-6)


def test_a_black_crop_leaves_the_text_alone(method):
    text, _ = method.pipeline.backbone.encode_prompt([EDIT])
    dark = dataclasses.make_dataclass("Dark", ["aligned"])(np.zeros((512, 512, 3), np.uint8))
    delta = method.residual([EDIT], text, [dark])
    step_text = StepText(text, delta, np.array([[0.3]]))
    assert not delta.any()
    assert torch.equal(step_text(0), text)


def test_the_projector_runs_once_per_image_whatever_the_steps(method, portrait_request):
    calls = []
    fuser = method.projector.network.fuser
    handle = fuser.register_forward_hook(lambda *_: calls.append(1))
    try:
        counts = []
        for steps in (1, STEPS, 5):
            watch(method, [portrait_request(1, prompt=EDIT)], num_inference_steps=steps)
            counts.append(len(calls))
            calls.clear()
    finally:
        handle.remove()
    assert counts == [2, 2, 2]  # with the face and without


@pytest.mark.parametrize("start_step", [0, 1])
def test_modules_act_once_per_step_and_never_on_text(method, portrait_request, start_step):
    transformer, injector = method.pipeline.backbone.transformer, method.pipeline.injector
    blocks = [transformer.transformer_blocks[0], transformer.single_transformer_blocks[0]]
    before, after = [], []
    handles = [
        block.register_forward_hook(lambda _, args, out, kept=kept: kept.append(out), prepend=first)
        for block in blocks
        for kept, first in ((before, True), (after, False))
    ]
    calls = []
    handles += [
        module.norm2.register_forward_hook(lambda *_, index=index: calls.append(index))
        for index, module in enumerate(injector.pulid_ca)
    ]
    try:
        seen = watch(method, [portrait_request(1, prompt=EDIT)], start_step=start_step)
    finally:
        for handle in handles:
            handle.remove()
    # norm2 normalises the image tokens of a module
    assert calls == [0, 1] * (STEPS - start_step)
    assert len(before) == len(after) == 2 * STEPS
    moved = [not torch.equal(a[1], b[1]) for a, b in zip(before, after, strict=True)]
    assert moved == [step >= start_step for step in range(STEPS) for _ in blocks]
    assert all(torch.equal(a[0], b[0]) for a, b in zip(before, after, strict=True))
    assert np.count_nonzero(seen.answers[0].info[NOTES]["w"]) == STEPS - start_step


def test_identity_enters_after_the_published_blocks():
    with torch.device("meta"):
        flux = FluxTransformer2DModel()
    doubles, singles = list(flux.transformer_blocks), list(flux.single_transformer_blocks)
    expected = [doubles[k] for k in (0, 2, 4, 6, 8, 10, 12, 14, 16, 18)]
    expected += [singles[k] for k in (0, 4, 8, 12, 16, 20, 24, 28, 32, 36)]
    assert all(a is b for a, b in zip(injected_blocks(flux), expected, strict=True))


def test_the_change_is_proportional_to_w(method, portrait_request):
    pipeline = method.pipeline
    injector, transformer = pipeline.injector, pipeline.backbone.transformer
    identity = injector.prepare(pipeline.encode_identity(portrait_request(1).references[0]).tokens)
    text, pooled = pipeline.backbone.encode_prompt([PLAIN])
    noise, image_ids = pipeline.backbone.noise([5], **SIZE)
    outputs = {}
    # the first injection point: no other module acts before it
    handle = transformer.transformer_blocks[0].register_forward_hook(
        lambda _, args, out: outputs.__setitem__(w, out[1].double())
    )
    try:
        for w in (0.0, 0.7, 1.372, 3.0):
            StepWeights(np.array([[w]])).before(injector, identity, "positive", 0, 1)
            with torch.no_grad():
                transformer(
                    hidden_states=noise,
                    timestep=torch.ones(1),
                    guidance=torch.full([1], 4.0),
                    pooled_projections=pooled,
                    encoder_hidden_states=text,
                    txt_ids=torch.zeros(text.shape[1], 3),
                    img_ids=image_ids,
                )
    finally:
        handle.remove()
        injector.use(None)
    unit = (outputs[3.0] - outputs[0.0]) / 3.0
    assert unit.abs().max() > 0.01
    for w in (0.7, 1.372):
        change = outputs[w] - outputs[0.0]
        assert (change - w * unit).norm() / change.norm() < 1e-5


def test_both_routes_give_the_same_latents(method, portrait_request):
    request = portrait_request(1, seed=3, prompt=EDIT)
    ours = watch(method, [request], timestep_rounding="diffusers")
    pipeline, injector = method.pipeline, method.pipeline.injector
    identity = pipeline.encode_identity(request.references[0])
    text, pooled = pipeline.backbone.encode_prompt([EDIT])
    gating = method.gating(EDIT)
    step_text = StepText(text, method.residual([EDIT], text, [identity]), gating.alpha[:, None])
    plan = StepWeights(gating.w[:, None])
    callback = step_end_callback(
        step_text, plan, injector, injector.prepare(identity.tokens), STEPS
    )
    latents = pipeline.backbone.pipe(
        prompt_embeds=step_text(0),
        pooled_prompt_embeds=pooled,
        **SIZE,
        num_inference_steps=STEPS,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(3),
        callback_on_step_end=callback,
        output_type="latent",
    ).images
    assert torch.equal(latents, ours.latents[-1])
    assert injector.identity_tokens is None


def test_no_step_waits_for_the_device(method):
    # on the meta device every look at a value is an error
    text = torch.empty(2, 5, 24, device="meta")
    weights = np.array([[0.1, 0.2], [0.0, 0.3], [0.0, 0.0]])
    steps = StepText(text, torch.empty(2, 5, 24, device="meta"), weights)
    assert [steps(step) is text for step in range(3)] == [False, False, True]
    plan, injector = StepWeights(weights, "meta"), method.pipeline.injector
    identity = Identity(torch.empty(2, 8, 128, device="meta"))
    for step in range(3):
        plan.before(injector, identity, "positive", step, 3)
        assert (injector.identity_tokens is None) == (step == 2)
    injector.use(None)


def test_cached_keys_and_values_are_those_of_every_step(method, portrait_request):
    injector = method.pipeline.injector
    tokens = method.pipeline.encode_identity(portrait_request(1).references[0]).tokens
    stream = torch.randn(1, 12, 32, generator=torch.Generator().manual_seed(1))
    outputs = []
    for identity in (injector.prepare(tokens), Identity(tokens)):
        injector.use(identity, 0.7)
        outputs.append(injector.update(1, stream))
    injector.use(None)
    torch.testing.assert_close(*outputs, atol=1e-6, rtol=0)


def test_a_batch_of_two_people_equals_single_runs(method, portrait_request):
    requests = [
        portrait_request(1, seed=3, prompt=EDIT),
        portrait_request(2, seed=4, prompt="a longer prompt about a woman in a library"),
    ]
    together = watch(method, requests)
    for index, request in enumerate(requests):
        alone = watch(method, [request])
        for batch, single in zip(together.latents, alone.latents, strict=True):
            torch.testing.assert_close(batch[index : index + 1], single, atol=1e-5, rtol=0)
        assert together.answers[index].info[NOTES] == alone.answers[0].info[NOTES]


def test_switching_gating_off_holds_the_means(method, portrait_request):
    scheduled = method.gating(PLAIN)
    (image,) = again(method, cag=False).generate([portrait_request(1, prompt=EDIT)])
    static = image.info[NOTES]
    assert static["alpha"] == [0.1] * STEPS
    assert static["w"] == [1.0] * STEPS
    assert static["intent"] is None
    assert scheduled.alpha.mean() == pytest.approx(0.1, abs=1e-12)
    assert scheduled.w.mean() == pytest.approx(1.0, abs=1e-12)
    flat = again(method, kappa=0.0).gating(EDIT)
    edited = method.gating(EDIT)
    np.testing.assert_allclose(flat.alpha, edited.alpha.mean(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(flat.w, edited.w.mean(), rtol=0, atol=1e-12)


def test_intent_can_be_forced(method):
    for value, like in ((0.0, PLAIN), (1.0, EDIT)):
        forced = again(method, force_intent=value)
        for prompt in (PLAIN, EDIT):
            found, expected = forced.gating(prompt), method.gating(like)
            assert np.array_equal(found.alpha, expected.alpha)
            assert np.array_equal(found.w, expected.w)


ABLATIONS = {
    "no_sip": {"sip": "off"},
    "no_vfa": {"vfa": False},
    "no_cag": {"cag": False},
    "no_intent": {"force_intent": 0.0},
    "no_temporal": {"kappa": 0.0},
    "pulid": {"sip": "off", "cag": False},
    "graded": {"intent_mode": "graded"},
    "sigma": {"schedule_time": "sigma"},
    "max": {"schedule_norm": "max"},
    "toward": {"sip_delta": "toward"},
    "literal": {"sip_delta": "literal", "sip_norm": "none"},
    "token": {"sip_norm": "token"},
    "prompt": {"sip_tokens": "prompt"},
    "no_rules": {"lemmatizer": "rules", "categories": ("style",)},
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_switch_makes_another_image(method, portrait_request, name):
    request = portrait_request(1, seed=3, prompt=EDIT)
    ours = watch(method, [request], **ABLATIONS[name])
    assert isinstance(ours.answers[0], Image.Image)
    full = watch(method, [request])
    if name != "graded":
        assert not same(ours.latents, full.latents)
    else:
        assert ours.answers[0].info[NOTES]["intent"]["value"] == pytest.approx(1 / 3)


def test_padding_is_left_alone_on_request(method, portrait_request):
    seen = watch(method, [portrait_request(1, prompt=EDIT)], sip_tokens="prompt")
    text, _ = method.pipeline.backbone.encode_prompt([EDIT])
    moved = (seen.text[0] != text).any(dim=2)[0]
    # one token per character of the tiny tokenizer, one ahead of each word, and the end
    length = len(EDIT) + 1 + 1
    assert moved.tolist() == [position < length for position in range(24)]


def test_half_precision_text_stays_in_it_and_moves_as_far():
    generator = torch.Generator().manual_seed(2)
    text = torch.randn(1, 64, 32, generator=generator).bfloat16()
    delta = torch.randn(1, 64, 32, generator=generator)
    delta = delta * text.float().norm() / delta.norm()
    moved = StepText(text, delta, np.array([[0.15]]))(0)
    assert moved.dtype == torch.bfloat16
    ratio = (moved.float() - text.float()).norm() / text.float().norm()
    # eight bits of mantissa round each element by up to 0.4 %
    assert ratio.item() == pytest.approx(0.15, rel=0.01)


def test_offloading_moves_no_pixel(method, portrait_request):
    request = portrait_request(1, seed=3, prompt=EDIT)
    ours = watch(method, [request], offload="model")
    assert same(ours.latents, watch(method, [request]).latents)


def test_sigmas_are_those_of_the_sampler(method, portrait_request):
    from idbench.methods.common.flux_sampling import euler_scheduler

    gating = again(method, schedule_time="sigma").gating(PLAIN, width=64, height=48)
    sigmas = euler_scheduler(STEPS, 4 * 3).sigmas[:-1].double().numpy()
    np.testing.assert_allclose(gating.alpha, 0.1 * sigmas / sigmas.mean(), rtol=1e-6)


def test_without_its_weights_the_projector_is_reported_and_not_faked(
    method, tiny_flux_weights, portrait_request, caplog
):
    with caplog.at_level(logging.WARNING):
        people = [portrait_request(1, prompt=EDIT), portrait_request(1, width=32, prompt=EDIT)]
        seen = watch(method, people, weights=tiny_flux_weights)
    assert caplog.text.count("sip: unavailable") == 1  # two batches, said once
    notes = seen.answers[0].info[NOTES]
    assert (notes["sip"], notes["alpha"]) == ("unavailable", [0.0] * STEPS)
    assert same(seen.latents, watch(method, people, sip="off").latents)
    absent = FlexID(weights=tiny_flux_weights, **SMALL)
    assert absent.fingerprint()["sip"] == "unavailable"
    with pytest.raises(MissingWeightsError, match="hf download ByteDance/FaceCLIP"):
        dataclasses.replace(absent, sip="on").fingerprint()


def test_the_patches_of_clip_pass_their_own_projection_or_a_given_one(
    method, flexid_weights, portrait_request, tmp_path, caplog
):
    from safetensors.torch import save_file

    request = portrait_request(1, seed=3, prompt=EDIT)
    with caplog.at_level(logging.WARNING):
        coarse = watch(method, [request], sip_encoder="clip_l14")
    assert "clip_l14 without visual_proj" in caplog.text
    assert coarse.answers[0].info[NOTES]["sip"] == "clip_l14"
    path = tmp_path / "visual_proj.safetensors"
    save_file({"weight": torch.randn(24, 32), "bias": torch.zeros(24)}, path)
    caplog.clear()
    trained = watch(method, [request], sip_encoder="clip_l14", visual_proj=path)
    assert "visual_proj" not in caplog.text
    assert not same(coarse.latents, trained.latents)
    given = FlexID(weights=flexid_weights, sip_encoder="clip_l14", visual_proj=path, **SMALL)
    assert {"clip", "visual_proj"} <= given.fingerprint()["weights"].keys()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"alpha_base": -1}, "alpha_base must be at least 0, got -1"),
        ({"eta_down": 2}, r"eta_down must be in \[0, 1\], got 2"),
        ({"force_intent": 1.5}, r"force_intent must be in \[0, 1\], got 1.5"),
        ({"categories": ("mood",)}, r"unknown categories \['mood'\]"),
        ({"visual_proj": "x"}, "need sip_encoder='clip_l14', got 'facet5'"),
    ],
)
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        FlexID(**setting)


def test_other_dictionaries_are_other_fingerprints(method, flexid_weights, tmp_path):
    path = tmp_path / "words.json"
    content = json.loads(
        files("idbench.methods.flexid").joinpath("intent_lexicon.json").read_text()
    )
    content["en"]["style"].append("passport")
    path.write_text(json.dumps(content))
    other = FlexID(weights=flexid_weights, lexicon=path, **SMALL)
    assert method.gating("a passport photo").intent.value == 0
    assert other.gating("a passport photo").intent.value == 1
    assert other.fingerprint()["lexicon"] != method.fingerprint()["lexicon"]


def test_arguments_arrive_as_text(flexid_weights):
    method = build(
        "flexid",
        {
            "weights": str(flexid_weights),
            "extra_keywords": '{"style": ["tin toy"]}',
            "categories": '["style"]',
            "vfa": "false",
            "force_intent": "none",
            "kappa": "0.5",
        },
    )
    assert (method.vfa, method.force_intent, method.kappa) == (False, None, 0.5)
    assert method.gating("a TIN toy").intent.value == 1
    assert method.gating("a man smiling").intent.value == 0
    assert not method.gating("a TIN toy").w.any()
    assert json.loads(json.dumps(method.fingerprint()))["parameters"]["categories"] == ["style"]
