import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from diffusers.models.embeddings import Timesteps

from idbench.methods.common.flux_sampling import (
    Branch,
    denoise,
    euler_scheduler,
    shift_mu,
    uses_true_cfg,
)
from idbench.methods.pulid.injection import IDInjector


@pytest.fixture(scope="module")
def schedules(golden):
    return golden("flux_schedule")


@pytest.mark.golden
def test_time_grids_equal_the_official_ones(schedules):
    for case in schedules.meta["cases"]:
        expected = schedules[f"out.n{case['steps']}_L{case['seq_len']}"].double()
        sigmas = euler_scheduler(case["steps"], case["seq_len"]).sigmas.double()
        torch.testing.assert_close(sigmas, expected, atol=1e-6, rtol=0)
        assert shift_mu(case["seq_len"]) == pytest.approx(case["mu"], abs=1e-12)


@pytest.mark.golden
def test_packing_equals_the_official_one(schedules):
    latent = schedules["in.latent"]
    packed = FluxPipeline._pack_latents(latent, *latent.shape)
    assert torch.equal(packed, schedules["out.packed"])


def test_grid_of_twenty_steps_at_1024_pixels():
    # printed in the specification of the official sampler
    expected = torch.tensor([1, 0.983608, 0.966014, 0.947080, 0.926647])
    torch.testing.assert_close(euler_scheduler(20, 4096).sigmas[:5], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("tokens", "mu"), [(1024, 0.63), (2304, 0.846667), (4032, 1.139167), (4096, 1.15)]
)
def test_shift_exponents(tokens, mu):
    assert shift_mu(tokens) == pytest.approx(mu, abs=1e-6)


def test_true_cfg_is_on_off_by_the_official_test():
    assert not uses_true_cfg(1.0)
    assert not uses_true_cfg(1.009)
    assert uses_true_cfg(1.02)
    assert uses_true_cfg(0.9)


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        euler_scheduler(0, 4096)


@pytest.fixture(scope="module")
def reference(golden):
    return golden("pulid_flux_tiny_forward")


def fixed_scheduler(sigmas):
    """A scheduler whose grid is given, last level 0 included."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    scheduler.set_timesteps(sigmas=sigmas[:-1].tolist())
    torch.testing.assert_close(scheduler.sigmas, sigmas.float(), atol=1e-7, rtol=0)
    return scheduler


TRAJECTORIES = {
    "no_id": {"identity": False},
    "id": {},
    "id_start2": {"weight": 0.8, "start_step": 2},
    "true_cfg": {"true_cfg_scale": 2.5, "cfg_start_step": 1},
    "true_cfg_start": {"true_cfg_scale": 2.5, "cfg_start_step": 3, "start_step": 1},
}


@pytest.mark.golden
@pytest.mark.parametrize("name", TRAJECTORIES)
def test_trajectories_equal_the_official_sampler(reference, tiny_flux, name):
    settings = {"identity": True, "weight": 1.0, "start_step": 0, **TRAJECTORIES[name]}
    transformer, modules = tiny_flux("pulid_flux_tiny_forward")
    injector = IDInjector(modules)
    injector.attach(transformer)

    def branch(prefix, tokens):
        identity = injector.prepare(reference[tokens])

        def before(step):
            on = settings["identity"] and step >= settings["start_step"]
            injector.use(identity if on else None, settings["weight"])

        return Branch(
            prompt_embeds=reference[f"in.{prefix}txt"],
            pooled_prompt_embeds=reference[f"in.{prefix}y"],
            before=before,
        )

    latents = denoise(
        transformer,
        fixed_scheduler(reference["in.schedule"]),
        reference["in.img"],
        image_ids=reference["in.img_ids"].reshape(-1, *reference["in.img_ids"].shape[-2:])[0],
        positive=branch("", "in.id"),
        negative=branch("neg_", "in.uncond_id"),
        guidance_scale=3.5,
        true_cfg_scale=settings.get("true_cfg_scale", 1.0),
        cfg_start_step=settings.get("cfg_start_step", 1),
    )
    injector.remove()
    torch.testing.assert_close(latents, reference[f"out.denoise_{name}"], atol=2e-4, rtol=0)


class Recorder(torch.nn.Module):
    """Stands where the transformer is called and keeps the noise levels it is given."""

    def __init__(self):
        super().__init__()
        self.config = type("Config", (), {"guidance_embeds": True})
        self.levels = []

    def forward(self, hidden_states, timestep, **inputs):
        self.levels.append(timestep[0].clone())
        return (torch.zeros_like(hidden_states),)


def levels(dtype, rounding):
    recorder = Recorder()
    text = torch.zeros(1, 2, 3, dtype=dtype)
    denoise(
        recorder,
        euler_scheduler(20, 4096),
        torch.zeros(1, 4, 16, dtype=dtype),
        image_ids=torch.zeros(4, 3),
        positive=Branch(prompt_embeds=text, pooled_prompt_embeds=text[:, 0]),
        guidance_scale=3.5,
        timestep_rounding=rounding,
    )
    return torch.stack(recorder.levels)


def test_bfloat16_levels_are_rounded_once():
    expected = euler_scheduler(20, 4096).sigmas[:-1].bfloat16()
    assert torch.equal(levels(torch.bfloat16, "once"), expected)
    # FluxPipeline's way gives the model another 1000 t on 8 of these 20 steps
    seen = 1000 * levels(torch.bfloat16, "diffusers")
    assert ((1000 * expected) != seen).sum() == 8


def test_negative_branch_is_required_for_true_cfg():
    text = torch.zeros(1, 2, 3)
    with pytest.raises(ValueError, match="needs a negative branch"):
        denoise(
            Recorder(),
            euler_scheduler(1, 4096),
            torch.zeros(1, 4, 16),
            image_ids=torch.zeros(4, 3),
            positive=Branch(prompt_embeds=text, pooled_prompt_embeds=text[:, 0]),
            guidance_scale=3.5,
            true_cfg_scale=2.0,
        )


@pytest.mark.golden
@pytest.mark.parametrize("rounding", ["once", "diffusers"])
def test_the_loop_never_waits_for_the_device(reference, tiny_flux, rounding):
    """On the meta device there is nothing to read: any look at a value is an error."""
    transformer, modules = tiny_flux("pulid_flux_tiny_forward")
    transformer.time_text_embed.time_proj = Timesteps(256, True, 0)
    injector = IDInjector([module.to("meta") for module in modules])
    injector.attach(transformer.to("meta"))
    identity = injector.prepare(reference["in.id"].to("meta"))
    branch = Branch(
        prompt_embeds=reference["in.txt"].to("meta"),
        pooled_prompt_embeds=reference["in.y"].to("meta"),
        before=lambda step: injector.use(identity, 1.0 / (step + 1)),
    )
    latents = denoise(
        transformer,
        euler_scheduler(3, reference["in.img"].shape[1]),
        reference["in.img"].to("meta"),
        image_ids=reference["in.img_ids"]
        .reshape(-1, *reference["in.img_ids"].shape[-2:])[0]
        .to("meta"),
        positive=branch,
        negative=branch,
        guidance_scale=3.5,
        true_cfg_scale=2.0,
        timestep_rounding=rounding,
    )
    assert latents.device.type == "meta"
    assert latents.shape == reference["in.img"].shape
    with pytest.raises((NotImplementedError, RuntimeError)):
        float(latents.mean())
