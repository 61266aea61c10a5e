"""Acceptance checks 14 to 16, and the sampler against diffusers' own pipeline."""

import copy

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0, IPAdapterAttnProcessor2_0

from idbench.methods.common.sd15 import ddim_scheduler
from idbench.methods.flexip.config import FlexIPConfig
from idbench.methods.flexip.injection import cross_attentions
from idbench.methods.flexip.references import Subject


def latents_of(pipeline, subject, generator, **settings):
    return pipeline(["a cup"], [subject], [generator(3)], decode=False, **settings).latents


def base_unet(pipeline):
    """The UNet of a pipeline, without the adapter."""
    unet = UNet2DConditionModel(**pipeline.unet.config).eval()
    unet.load_state_dict(pipeline.unet.state_dict())
    return unet


def test_without_strength_it_is_stable_diffusion(load, subjects, generator):
    """The base pipeline of diffusers is the oracle."""
    ours = load(scale=0.0, guidance_scale=4.0, negative_prompt="blurry")
    found = latents_of(ours, subjects[0], generator)
    oracle = StableDiffusionPipeline(
        vae=ours.vae,
        text_encoder=ours.prompts.model,
        tokenizer=ours.prompts.tokenizer,
        unet=base_unet(ours),
        scheduler=ddim_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    oracle.set_progress_bar_config(disable=True)
    expected = oracle(
        "a cup",
        negative_prompt="blurry",
        height=64,
        width=64,
        num_inference_steps=3,
        guidance_scale=4.0,
        latents=torch.randn(1, 4, 8, 8, generator=generator(3)),
        output_type="latent",
    ).images
    assert ((found - expected).norm() / expected.norm()).item() < 1e-5


def test_it_is_the_loop_of_diffusers_with_its_two_adapter_attention(load, subjects, generator):
    """The route that diffusers offers: (text, [P, S]) as context, scales of both adapters."""
    gamma, scale, guidance = 0.3, 0.8, 7.5
    ours = load(gamma=gamma, scale=scale)
    found = latents_of(ours, subjects[0], generator)
    unet, key_values = base_unet(ours), ours.adapter.layers()
    processors = {}
    for name in unet.attn_processors:
        path = name.removesuffix(".processor")
        if path not in key_values:
            processors[name] = AttnProcessor2_0()
            continue
        weights = key_values[path]
        hidden, width = weights.to_k_p.weight.shape
        processor = IPAdapterAttnProcessor2_0(
            hidden, width, num_tokens=(5, 77), scale=[scale * gamma, scale * (1 - gamma)]
        )
        for place, branch in enumerate("ps"):
            for kind in "kv":
                source = getattr(weights, f"to_{kind}_{branch}").weight
                getattr(processor, f"to_{kind}_ip")[place].weight.data.copy_(source)
        processors[name] = processor
    unet.set_attn_processor(processors)
    features = ours.encode_subject(subjects[0])
    with torch.no_grad():
        halves = []
        for prompt, seen in (("", features.null()), ("a cup", features)):
            text = ours.prompts.tokens([prompt])
            halves.append((text, *ours.adapter(text, seen.class_tokens, seen.patches)))
        text, p, s = (torch.cat(pair) for pair in zip(*halves, strict=True))
        scheduler = ddim_scheduler()
        scheduler.set_timesteps(3)
        latents = torch.randn(1, 4, 8, 8, generator=generator(3))
        for timestep in scheduler.timesteps:
            noise = unet(torch.cat([latents] * 2), timestep, (text, [p, s])).sample
            without, with_condition = noise.chunk(2)
            guided = without + guidance * (with_condition - without)
            latents = scheduler.step(guided, timestep, latents).prev_sample
    assert ((found - latents).norm() / latents.norm()).item() < 1e-5


def test_the_unconditional_half_is_the_same_for_all_subjects(load, subjects):
    pipeline = load()
    one, two = (pipeline.encode_subject(subject) for subject in subjects)
    nulls = [pipeline.unconditional([features]) for features in (one, two)]
    assert torch.equal(nulls[0].preservation, nulls[1].preservation)
    assert torch.equal(nulls[0].personalization, nulls[1].personalization)
    given = [pipeline.conditional(["a cup"], [features]) for features in (one, two)]
    assert not torch.equal(given[0].preservation, given[1].preservation)
    assert not torch.equal(given[0].personalization, given[1].personalization)


def test_null_tokens_are_those_of_zeros_before_the_projections(load, subjects):
    pipeline = load()
    adapter, text = pipeline.adapter, pipeline.prompts.tokens([""])
    null = pipeline.unconditional([pipeline.encode_subject(subjects[0])])
    p, s = adapter(text, torch.zeros(1, 1, 32), torch.zeros(1, 4, 24))
    torch.testing.assert_close(null.preservation, p)
    torch.testing.assert_close(null.personalization, s)


def test_guidance_one_is_the_conditional_branch(load, subjects, generator):
    plain, guided = load(guidance_scale=1.0), load(guidance_scale=1.0 + 1e-9)
    one = latents_of(plain, subjects[0], generator)
    torch.testing.assert_close(one, latents_of(guided, subjects[0], generator), atol=1e-5, rtol=0)
    other = load(guidance_scale=1.0, negative_prompt="a dog")
    assert torch.equal(one, latents_of(other, subjects[0], generator))


def test_gammas_of_a_batch_are_those_of_single_runs(load, subjects, generator):
    pipeline = load()
    gammas = [0.0, 0.5, 1.0]
    together = pipeline(
        ["a cup"] * 3,
        subjects[:1] * 3,
        [generator(3) for _ in gammas],
        gammas=gammas,
        decode=False,
    ).latents
    for row, gamma in enumerate(gammas):
        alone = latents_of(load(gamma=gamma), subjects[0], generator)
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-5)
        same = latents_of(pipeline, subjects[0], generator, gammas=[gamma])
        assert torch.equal(same, alone)


def test_images_change_continuously_with_gamma(load, subjects, generator):
    """50 steps; a tenth of the way moves the latents more than a hundredth does."""
    starts = (0.2, 0.5, 0.8)
    gammas = [start + step for start in starts for step in (0.0, 0.01, 0.1)]
    latents = load(num_inference_steps=50)(
        ["a cup"] * 9,
        [load().encode_subject(subjects[0])] * 9,
        [generator(3) for _ in gammas],
        gammas=gammas,
        decode=False,
    ).latents
    for at, near, far in latents.unflatten(0, (3, 3)):
        assert 0 < (near - at).norm() < (far - at).norm()


def test_the_ends_do_not_depend_on_the_other_adapter(load, tiny_files, subjects, generator):
    from idbench.methods.flexip.loading import load_pipeline

    for gamma, part in ((1.0, "personalization"), (0.0, "preservation")):
        before = latents_of(load(gamma=gamma), subjects[0], generator)
        spoiled = load_pipeline(
            tiny_files,
            FlexIPConfig(gamma=gamma, num_inference_steps=3, height=64, width=64),
        )
        with torch.no_grad():
            for parameter in getattr(spoiled.adapter, part).parameters():
                parameter.normal_()
        assert torch.equal(latents_of(spoiled, subjects[0], generator), before)


def test_several_references_are_read_together(load, subjects, pictures, generator):
    pipeline = load()
    both = pipeline.encode_subject(Subject(pictures=pictures))
    made = pipeline.conditional(["a cup"], [both])
    assert made.preservation.shape == (1, 4 + 2, 64)  # four learnable, one per reference
    assert made.personalization.shape == (1, 77, 64)
    swapped = pipeline.conditional(
        ["a cup"], [pipeline.encode_subject(Subject(pictures=pictures[::-1]))]
    )
    torch.testing.assert_close(made.personalization, swapped.personalization, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        made.preservation[:, [0, 1, 2, 3, 5, 4]], swapped.preservation, atol=1e-5, rtol=0
    )


def test_the_mean_of_references_is_the_mean_of_their_tokens(load, subjects, pictures):
    pipeline = load(multi_reference="mean")
    both = pipeline.encode_subject(Subject(pictures=pictures))
    made = pipeline.conditional(["a cup"], [both])
    each = [
        pipeline.conditional(["a cup"], [pipeline.encode_subject(subject)]) for subject in subjects
    ]
    for name in ("preservation", "personalization"):
        mean = sum(getattr(one, name) for one in each) / 2
        torch.testing.assert_close(getattr(made, name), mean)


def test_one_reference_twice_is_like_once_in_the_mean(load, pictures, generator):
    pipeline = load(multi_reference="mean")
    once, twice = (Subject(pictures=pictures[:1] * count) for count in (1, 2))
    torch.testing.assert_close(
        latents_of(pipeline, once, generator), latents_of(pipeline, twice, generator)
    )


def test_a_grid_has_every_prompt_with_every_subject_and_gamma(load, subjects, pictures, generator):
    pipeline = load(num_inference_steps=2)
    prompts, gammas = ["a cup", "a hat"], [0.0, 1.0]
    everyone = [*subjects, Subject(pictures=pictures)]  # the last one has two references
    cells = list(pipeline.grid(prompts, everyone, gammas, seeds=[3], batch_size=3))
    assert [(cell.prompt, cell.subject, cell.gamma) for cell in cells] == [
        (prompt, subject, gamma) for prompt in range(2) for subject in range(3) for gamma in gammas
    ]
    picked = cells[4 + 6]  # the hat, both references, gamma 0
    alone = pipeline(["a hat"], everyone[2:], [generator(3)], gammas=[0.0]).images[0]
    difference = [abs(a - b) for a, b in zip(picked.image.tobytes(), alone.tobytes(), strict=True)]
    assert max(difference) <= 1


def test_layers_can_have_gammas_of_their_own(load, subjects, generator):
    """Gamma 1 in every block, by name, is gamma 1."""
    blocks = {"down_blocks": 1.0, "mid_block": 1.0, "up_blocks": 1.0}
    named = load(gamma=0.2, layer_gamma=blocks)
    assert torch.equal(
        latents_of(named, subjects[0], generator),
        latents_of(load(gamma=1.0), subjects[0], generator),
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_finite_and_close(load, subjects, generator, dtype):
    half = latents_of(load(dtype=dtype, guidance_scale=2.0), subjects[0], generator)
    full = latents_of(load(guidance_scale=2.0), subjects[0], generator)
    assert torch.isfinite(half).all()
    assert ((half - full).norm() / full.norm()).item() < 0.2


def test_the_layers_of_the_unet_are_found_once(load):
    assert load().layers == tuple(cross_attentions(load().unet))


def test_what_does_not_fit_is_refused(load, subjects, pictures, generator):
    pipeline = load()
    with pytest.raises(ValueError, match="one of each per image"):
        pipeline(["a", "b"], subjects[:1], [generator(0)])
    with pytest.raises(ValueError, match="2 gammas for 1 images"):
        pipeline(["a"], subjects[:1], [generator(0)], gammas=[0.1, 0.2])
    with pytest.raises(ValueError, match=r"gamma must be in \[0, 1\]"):
        pipeline(["a"], subjects[:1], [generator(0)], gammas=[1.5])
    with pytest.raises(ValueError, match="multiple of 8"):
        pipeline(["a"], subjects[:1], [generator(0)], height=60)
    mixed = [subjects[0], Subject(pictures=pictures)]
    with pytest.raises(ValueError, match=r"same number of references, got \[1, 2\]"):
        pipeline(["a", "b"], mixed, [generator(0), generator(1)])
    with pytest.raises(ValueError, match="gammas is empty"):
        next(pipeline.grid(["a"], subjects, []))
    with pytest.raises(ValueError, match="layer_gamma has 'side_blocks'"):
        load(layer_gamma={"side_blocks": 0.5})


@pytest.mark.parametrize(
    "setting",
    [
        {"gamma": 1.1},
        {"scale": -0.1},
        {"layer_gamma": {"mid_block": 2.0}},
        {"layer_scale": {"mid_block": float("nan")}},
        {"num_inference_steps": 0},
        {"guidance_scale": 0.5},
        {"height": 500},
    ],
)
def test_settings_out_of_range_are_named(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        FlexIPConfig(**setting)


@pytest.mark.parametrize("gammas", [[0.3, 0.3], [0.0, 0.7]])
def test_the_loop_never_waits_for_the_device(load, subjects, generator, gammas):
    """On the meta device there is nothing to read: any look at a value is an error."""
    pipeline = copy.deepcopy(load())
    features = [pipeline.encode_subject(subjects[0])] * 2
    conditional = pipeline.conditional(["a cup"] * 2, features)
    unconditional = pipeline.unconditional(features)
    pipeline.unet.to("meta")
    pipeline.adapter.to("meta")
    made = pipeline.denoise(
        torch.empty(2, 4, 8, 8, device="meta"),
        conditional.to("meta", torch.float32),
        unconditional.to("meta", torch.float32),
        pipeline.gates(gammas, 2),
    )
    assert made.device.type == "meta"
    with pytest.raises((NotImplementedError, RuntimeError)):
        float(made.mean())
