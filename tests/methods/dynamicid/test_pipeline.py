import copy
import dataclasses

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image

from idbench.methods.dynamicid.config import DynamicIDConfig
from idbench.methods.dynamicid.control import SAAControl
from idbench.methods.dynamicid.injection import attention_layers, install_saa
from idbench.methods.dynamicid.layout import FULL_FRAME, Layout, vertical_strips
from idbench.methods.dynamicid.person import Person
from idbench.methods.dynamicid.pipeline import DynamicIDPipeline, ddim_scheduler
from idbench.methods.dynamicid.recorder import ActivationRecorder

LEFT, RIGHT = (0.1, 0.0, 0.9, 0.45), (0.1, 0.55, 0.9, 1.0)


def relative_error(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.golden
def test_denoising_agrees_with_the_official_pipeline(cases):
    checked = 0
    for case in cases("pipeline"):
        meta, given = case.meta, case.group("in")
        unet = UNet2DConditionModel(**meta["unet_config"]).eval()
        unet.load_state_dict(case.group("unet"), strict=True)
        modules = install_saa(unet, rank=meta["lora_rank"])
        modules.load_state_dict(case.group("saa_module"), strict=True)
        people, steps = meta["num_ids"], meta["steps"]
        # Without boxes the official code has strips; for one person that is the whole frame.
        boxes = meta["bboxes_y0x0y1x1"] or (vertical_strips(people) if people > 1 else [FULL_FRAME])
        control = SAAControl(
            num_people=people,
            tokens_per_person=given["uncond_id_tokens"].shape[1],
            layout=Layout(
                [boxes] * len(given["latents"]), height=meta["height"], width=meta["width"]
            ),
            layout_steps=meta["infer_end"],
            beta=float(meta["infer_scale"]),
            activate_query=meta["activate_query"],
        )
        negative = torch.cat(
            [given["negative_tokens"], given["uncond_id_tokens"].repeat(1, people, 1)], dim=1
        )
        positive = torch.cat([given["text_tokens"], given["id_tokens"]], dim=1)
        config = DynamicIDConfig(num_inference_steps=steps, guidance_scale=meta["guidance_scale"])
        pipeline = DynamicIDPipeline(
            identity=None, prompts=None, unet=unet, vae=None, config=config
        )
        found = pipeline.denoise(given["latents"], torch.cat([negative, positive]), control)
        error = relative_error(found, case.tensors["out/latents"])
        assert error < 1e-4, (case.name, error)
        checked += 1
    assert checked


def test_four_steps_are_at_the_timesteps_of_the_official_sampler():
    scheduler = ddim_scheduler()
    scheduler.set_timesteps(4)
    assert scheduler.timesteps.tolist() == [751, 501, 251, 1]


@pytest.mark.golden
def test_the_scheduler_is_that_of_the_goldens(cases):
    for case in cases("pipeline"):
        expected = DDIMScheduler(**case.meta["scheduler_config"])
        assert torch.equal(ddim_scheduler().alphas_cumprod, expected.alphas_cumprod)
        for key, value in case.meta["scheduler_config"].items():
            assert ddim_scheduler().config[key] == value


@pytest.fixture(scope="module")
def couple(astronaut):
    other = Image.fromarray(255 - np.asarray(astronaut))
    return Person(references=(astronaut,)), Person(references=(other,))


def boxed(people, *boxes):
    return [dataclasses.replace(person, box=box) for person, box in zip(people, boxes, strict=True)]


def test_without_identity_it_is_stable_diffusion(load, astronaut, generator):
    """The base pipeline of diffusers is the oracle: scale 0 and no LoRA change nothing."""
    ours = load(id_scale=0.0, merge=False, num_inference_steps=3, guidance_scale=4.0)
    modules = [attn.processor for attn in attention_layers(ours.unet).values()]
    kept = [{k: v.clone() for k, v in module.state_dict().items()} for module in modules]
    for module in modules:
        for name, parameter in module.named_parameters():
            if name.endswith("up.weight"):
                parameter.zero_()
    found = ours(["a man"], [[Person(references=(astronaut,))]], [generator(3)], decode=False)
    for module, state in zip(modules, kept, strict=True):
        module.load_state_dict(state)
    base = UNet2DConditionModel(**ours.unet.config)
    state = ours.unet.state_dict()
    base.load_state_dict({key: state[key] for key in base.state_dict()})
    oracle = StableDiffusionPipeline(
        vae=ours.vae,
        text_encoder=ours.prompts.model,
        tokenizer=ours.prompts.tokenizer,
        unet=base,
        scheduler=ddim_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    oracle.set_progress_bar_config(disable=True)
    expected = oracle(
        "a man",
        height=64,
        width=64,
        num_inference_steps=3,
        guidance_scale=4.0,
        latents=torch.randn(1, 4, 8, 8, generator=generator(3)),
        output_type="latent",
    ).images
    assert relative_error(found.latents, expected) < 1e-5


@pytest.mark.parametrize("count", [1, 2, 3])
def test_one_two_and_three_people(load, couple, generator, count):
    people = [*couple, couple[0]][:count]
    made = load()(["people in a bus"], [people], [generator(0)])
    assert made.images[0].size == (64, 64)
    assert torch.isfinite(made.latents).all()
    assert made.boxes == (None if count == 1 else (vertical_strips(count),))
    assert made.layout_steps == 1


def test_images_of_a_batch_are_those_made_alone(load, couple, generator):
    pipeline = load()
    prompts, people = ["a man", "a woman in a car"], [couple[0], couple[1]]
    both = pipeline(prompts, [[person] for person in people], [generator(1), generator(2)])
    for index in range(2):
        alone = pipeline([prompts[index]], [[people[index]]], [generator(index + 1)])
        torch.testing.assert_close(both.latents[index], alone.latents[0], atol=1e-4, rtol=1e-4)


def test_images_of_a_batch_have_their_own_boxes(load, couple, generator):
    pipeline = load()
    boxes = [(LEFT, RIGHT), ((0.5, 0.0, 1.0, 0.5), (0.0, 0.5, 0.5, 1.0))]
    both = pipeline(
        ["two people"] * 2,
        [boxed(couple, *pair) for pair in boxes],
        [generator(1)] * 1 + [generator(1)],
    )
    for index, pair in enumerate(boxes):
        alone = pipeline(["two people"], [boxed(couple, *pair)], [generator(1)])
        torch.testing.assert_close(both.latents[index], alone.latents[0], atol=1e-4, rtol=1e-4)
    assert not torch.equal(both.latents[0], both.latents[1])


def test_the_same_call_gives_the_same_pixels(load, couple, generator):
    first, second = (load()(["a man"], [[couple[0]]], [generator(5)]).images[0] for _ in range(2))
    np.testing.assert_array_equal(np.asarray(first), np.asarray(second))


@pytest.mark.parametrize("size", [(64, 96), (72, 104), (136, 64)])
def test_sizes_that_do_not_halve_evenly(load, couple, generator, size):
    height, width = size
    made = load()(
        ["two people"], [boxed(couple, LEFT, RIGHT)], [generator(0)], height=height, width=width
    )
    assert made.images[0].size == (width, height)


@pytest.mark.parametrize("size", [(60, 64), (64, 0), (64, 513)])
def test_sizes_that_the_latents_do_not_have_are_refused(load, couple, generator, size):
    with pytest.raises(ValueError, match="multiple of 8"):
        load()(["a"], [[couple[0]]], [generator(0)], height=size[0], width=size[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("overlap", [False, True])
def test_half_precision_stays_finite_and_close(load, couple, generator, dtype, overlap):
    boxes = (FULL_FRAME, (0.0, 0.3, 1.0, 0.9)) if overlap else (LEFT, RIGHT)
    arguments = (["two people"], [boxed(couple, *boxes)])
    half = load(dtype=dtype)(*arguments, [generator(0)])
    full = load()(*arguments, [generator(0)])
    assert torch.isfinite(half.latents).all()
    assert relative_error(half.latents, full.latents) < 0.2


def test_the_layout_term_is_on_for_its_steps_and_off_after(load, couple, generator):
    pipeline = load(num_inference_steps=8)  # floor(0.24 x 8 + 0.5) = 2
    seen = []
    original = pipeline.unet.forward

    def spy(sample, timestep, context, cross_attention_kwargs, **rest):
        seen.append(cross_attention_kwargs["saa"].layout_active)
        return original(
            sample, timestep, context, cross_attention_kwargs=cross_attention_kwargs, **rest
        )

    pipeline.unet.forward = spy
    try:
        pipeline(["two people"], [boxed(couple, LEFT, RIGHT)], [generator(0)], decode=False)
    finally:
        del pipeline.unet.forward
    assert seen == [True] * 2 + [False] * 6


def test_the_context_has_the_tokens_of_nobody_in_its_unconditional_half(load, couple):
    pipeline = load(negative_prompt="blurry")
    tokens = torch.randn(1, 8, 64)
    context = pipeline.context(["two people"], tokens)
    nobody = pipeline.identity.face_encoder.unconditional_tokens()
    assert context.shape == (2, 77 + 8, 64)
    assert torch.equal(context[0, :77], pipeline.prompts.tokens(["blurry"])[0])
    assert torch.equal(context[1, :77], pipeline.prompts.tokens(["two people"])[0])
    assert torch.equal(context[0, 77:], torch.cat([nobody[0], nobody[0]]))
    assert torch.equal(context[1, 77:], tokens[0])


def test_the_recorder_sees_every_layer_and_step(load, couple, generator):
    recorder = ActivationRecorder()
    pipeline = load()
    pipeline(["a man"], [[couple[0]]], [generator(0)], recorder=recorder, decode=False)
    layers = [name for name in attention_layers(pipeline.unet) if name.endswith("attn2")]
    assert set(recorder.activations) == {(layer, step) for layer in layers for step in range(4)}
    gate = recorder.activations[layers[0], 0]
    assert gate.shape == (2, 64)
    assert (gate.amax(dim=1) == 1).all()


def test_swapping_people_with_their_boxes_changes_nothing(load, couple, generator):
    pipeline = load()
    one = pipeline(["two"], [boxed(couple, LEFT, RIGHT)], [generator(0)], decode=False)
    two = pipeline(["two"], [boxed(couple[::-1], RIGHT, LEFT)], [generator(0)], decode=False)
    assert relative_error(one.latents, two.latents) < 1e-4
    moved = pipeline(["two"], [boxed(couple[::-1], LEFT, RIGHT)], [generator(0)], decode=False)
    assert relative_error(one.latents, moved.latents) > 1e-3


def test_context_is_decoupled_from_identity(load, couple, generator):
    """Another person changes what the gate leaves shut less than without the gate (fig. 8a)."""
    background = {}
    for gated in (True, False):
        pipeline = load(activate_query=gated, num_inference_steps=3)
        recorders = [ActivationRecorder() for _ in couple]
        latents = [
            pipeline(["a man"], [[person]], [generator(0)], recorder=recorder, decode=False).latents
            for person, recorder in zip(couple, recorders, strict=True)
        ]
        if gated:
            gates = [gate for recorder in recorders for gate in recorder.activations.values()]
            fine = torch.stack([gate[1] for gate in gates if gate.shape[1] == 64]).mean(dim=0)
            shut = fine.reshape(8, 8) <= fine.quantile(0.25)
        background[gated] = (latents[0] - latents[1])[0, :, shut].square().mean().item()
    assert background[True] < background[False]


def test_mixed_identities_depend_on_the_share(load, couple, generator):
    pipeline = load()
    results = [
        pipeline(
            ["a person"], [list(couple)], [generator(0)], id_mix=how, mix_scale=share, decode=False
        ).latents
        for how in ("logit", "prob")
        for share in (0.2, 0.8)
    ]
    assert all(torch.isfinite(latents).all() for latents in results)
    assert not torch.equal(results[0], results[1])
    assert not torch.equal(results[2], results[3])


def test_the_legacy_layout_of_one_person_changes_the_early_steps(load, couple, generator):
    outputs = [
        load(legacy_full_frame_layout=legacy)(["a"], [[couple[0]]], [generator(0)])
        for legacy in (False, True)
    ]
    assert outputs[0].boxes is None
    assert outputs[1].boxes == ((FULL_FRAME,),)
    assert not torch.equal(outputs[0].latents, outputs[1].latents)


def test_latents_that_are_not_finite_are_an_error(load):
    with pytest.raises(FloatingPointError, match="not finite"):
        load().decode(torch.full((1, 4, 8, 8), float("nan")))


def test_lists_of_different_lengths_are_refused(load, couple, generator):
    with pytest.raises(ValueError, match="one of each per image"):
        load()(["a", "b"], [[couple[0]]], [generator(0)])


def test_images_with_different_numbers_of_people_are_refused(load, couple, generator):
    with pytest.raises(ValueError, match="same number of people"):
        load()(["a", "b"], [[couple[0]], list(couple)], [generator(0), generator(1)])


@pytest.mark.parametrize(
    "setting",
    [
        {"num_inference_steps": 0},
        {"guidance_scale": 0.5},
        {"alpha": 1.5},
        {"beta": float("nan")},
        {"gate_threshold": -0.1},
        {"height": 500},
    ],
)
def test_settings_out_of_range_are_named(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        DynamicIDConfig(**setting)


@pytest.mark.parametrize("boxes", [(), (LEFT, RIGHT)])
def test_the_loop_never_waits_for_the_device(load, couple, boxes):
    """On the meta device there is nothing to read: any look at a value is an error."""
    pipeline = copy.deepcopy(load())
    people = boxed(couple, *boxes) if boxes else [Person(references=p.references) for p in couple]
    encoded = [pipeline.identity.encode(person) for person in people]
    tokens = torch.cat([one.tokens for one in encoded], dim=1)
    context = pipeline.context(["two"], tokens).to("meta")
    layout = pipeline.layout([people], 64, 64, mixed=False)
    pipeline.unet.to("meta")
    control = pipeline.control(num_people=2, layout=layout)
    latents = pipeline.denoise(torch.empty(1, 4, 8, 8, device="meta"), context, control)
    assert latents.device.type == "meta"
    with pytest.raises((NotImplementedError, RuntimeError)):
        float(latents.mean())
