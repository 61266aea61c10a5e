import json

import pytest
import torch
from safetensors.torch import load_file

from idbench.methods.editedid.config import EditedIDConfig
from idbench.methods.editedid.null_text import optimise_null_text
from idbench.methods.editedid.scheduler import HybridDDIMDPMScheduler


class Toy:
    """The toy predictor of the golden file and what is optimised on it."""

    def __init__(self, tensors, meta):
        self.tensors = tensors
        self.config = EditedIDConfig(
            num_inference_steps=len(meta["timesteps"]),
            dpm_range=None,
            guidance_scale=meta["guidance"],
            null_inner_steps=meta["inner_steps"],
            null_stop=meta["eps"],
        )
        self.scheduler = HybridDDIMDPMScheduler().configured(self.config)

    def predict(self, latents, timestep, embeds):
        alpha_bar = float(self.scheduler.alphas_cumprod[timestep])
        drive = latents @ self.tensors["W1"].to(latents) + embeds @ self.tensors["W2"].to(latents)
        return (1 - alpha_bar) ** 0.5 * latents + 0.1 * torch.tanh(drive)

    def targets(self, roles="oi", scales=(1.0,), dtype=torch.float64):
        """Mixed states of the golden, noisy to clean, (pairs, roles, dim); scaled per pair."""
        states = torch.stack([self.tensors[f"traj_{role}"][:, 0] for role in roles], 1)
        pairs = torch.stack([scale * states for scale in scales], 1).flip(0)
        return list(pairs.to(dtype))

    def optimise(self, roles="oi", scales=(1.0,), dtype=torch.float64, loss_scale=1.0, **settings):
        targets = self.targets(roles, scales, dtype)
        prompts = torch.stack([self.tensors[f"c_{role}"][0] for role in roles])
        config = (
            self.config if not settings else EditedIDConfig(**{**_dict(self.config), **settings})
        )
        return optimise_null_text(
            targets,
            self.predict,
            prompts.expand(len(scales), -1, -1).to(dtype),
            self.tensors["u0"].to(dtype),
            self.scheduler,
            config,
            loss_scale=loss_scale,
        )


def _dict(config):
    return {name: getattr(config, name) for name in config.__slots__}


@pytest.fixture(scope="module")
def toy(golden_file):
    meta = json.loads(golden_file("editedid_null_text.json").read_text())
    return Toy(load_file(golden_file("editedid_null_text.safetensors")), meta), meta


@pytest.mark.golden
def test_toy_problem(toy):
    toy, meta = toy
    assert toy.scheduler.timesteps.tolist() == meta["timesteps"]
    found = toy.optimise()
    for step, expected in enumerate(meta["steps"]):
        assert found.inner_steps[step].tolist() == [expected["inner"]]
        assert found.losses[step][:, 0].tolist() == pytest.approx(expected["losses"], rel=1e-6)
        for role, name in enumerate("oi"):
            for ours, key in ((found.embeddings[step], "null"), (found.states[step + 1], "z")):
                index = step + (key == "z")
                theirs = toy.tensors[f"{key}_{name}.{index}"][0]
                torch.testing.assert_close(ours[0, role], theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.golden
def test_loss_falls_within_each_step(toy):
    found = toy[0].optimise()
    for losses in found.losses:
        assert (losses[1:] < losses[:-1]).all()


@pytest.mark.golden
def test_joint_optimisation_is_two_independent_ones(toy):
    toy, _ = toy
    both = toy.optimise(null_stop=0.0, null_stop_growth=0.0)
    for role, name in enumerate("oi"):
        alone = toy.optimise(roles=name, null_stop=0.0, null_stop_growth=0.0)
        for ours, theirs in zip(both.embeddings, alone.embeddings, strict=True):
            torch.testing.assert_close(ours[:, role], theirs[:, 0], atol=1e-10, rtol=0)


@pytest.mark.golden
def test_a_batch_equals_its_pairs_alone_though_they_stop_at_different_times(toy):
    toy, _ = toy
    scales = (1.0, 0.2, 0.6)
    # Half way down the first step of the smallest pair: it stops there, others run on.
    free = toy.optimise(scales=scales, null_stop=0.0, null_stop_growth=0.0)
    first = free.losses[0][:, 1]
    stops = {"null_stop": float(first[len(first) // 2]) / 2, "null_stop_growth": 0.0}
    together = toy.optimise(scales=scales, dtype=torch.float32, **stops)
    counts = torch.stack(together.inner_steps)
    assert len(counts.unique(dim=1).T) > 1  # otherwise this test shows nothing
    for index, scale in enumerate(scales):
        alone = toy.optimise(scales=(scale,), dtype=torch.float32, **stops)
        assert torch.equal(torch.stack(alone.inner_steps)[:, 0], counts[:, index])
        for ours, theirs in zip(together.embeddings, alone.embeddings, strict=True):
            torch.testing.assert_close(ours[index], theirs[0], atol=1e-5, rtol=1e-5)


@pytest.mark.golden
def test_updates_are_those_of_torch_adam(toy):
    """One diffusion step against torch.optim.Adam."""
    toy, _ = toy
    targets = toy.targets("o")
    null = toy.tensors["u0"].clone().requires_grad_()
    optimiser = torch.optim.Adam([null], lr=1e-2)
    timestep = int(toy.scheduler.timesteps[0])
    conditional = toy.predict(targets[0][0], timestep, toy.tensors["c_o"])
    for _ in range(10):
        unconditional = toy.predict(targets[0][0], timestep, null)
        guided = unconditional + 7.5 * (conditional - unconditional)
        moved, _ = toy.scheduler.step(targets[0][0], guided, 0)
        loss = torch.nn.functional.mse_loss(moved, targets[1][0])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    found = toy.optimise("o", null_stop=0.0)
    torch.testing.assert_close(found.embeddings[0][0], null.detach(), rtol=1e-9, atol=1e-12)


@pytest.mark.golden
def test_a_pair_below_the_threshold_takes_one_update_only(toy):
    found = toy[0].optimise(null_stop=1e3)
    assert torch.stack(found.inner_steps).flatten().tolist() == [1] * len(found.inner_steps)


@pytest.mark.golden
def test_the_scale_of_the_loss_moves_nothing(toy):
    plain, scaled = toy[0].optimise(), toy[0].optimise(loss_scale=1024.0)
    for ours, theirs in zip(scaled.embeddings, plain.embeddings, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
