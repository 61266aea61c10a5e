import json

import pytest
import torch
from safetensors.torch import load_file

from idbench.methods.editedid.analytic import GaussianMixture
from idbench.methods.editedid.config import EditedIDConfig
from idbench.methods.editedid.mixing import (
    AdaptiveMixer,
    automatic_lr,
    mix,
    next_weight,
    squared_gap,
)
from idbench.methods.editedid.scheduler import HybridDDIMDPMScheduler
from idbench.methods.editedid.trajectories import invert_pair


def pair(seed=0, pairs=1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, pairs, 4, 8, 8, generator=generator, dtype=dtype).unbind()


def run_recursion(config, *, seed=0, dtype=torch.float64):
    mixer = AdaptiveMixer(config, 1)
    original, intermediate = pair(seed, dtype=dtype)
    for _ in range(config.num_inference_steps):
        original, intermediate = mixer(original, intermediate)
    return mixer, original, intermediate


def test_recursion_by_hand():
    """U shrinks by 1 - 8 * 0.015 = 0.88 per step from 0.92, the last step is forced."""
    mixer, *_ = run_recursion(EditedIDConfig(mix_lr=0.015))
    weights = torch.cat(mixer.weights).tolist()
    assert weights == pytest.approx([0.04, 0.0952, 0.143776, 0.18652288, 0.22414013, 0.5], abs=1e-8)
    gap, products = 1.0, []
    for weight in weights:
        gap *= 1 - 2 * weight
        products.append(gap)
    assert products == pytest.approx([0.92, 0.744832, 0.530654, 0.332694, 0.183554, 0], abs=1e-5)


@pytest.mark.parametrize("final_steps", [1, 2])
@pytest.mark.parametrize("lr", [0.0, 0.015, 0.05, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_latents_are_bitwise_equal_at_the_end(final_steps, lr, dtype):
    config = EditedIDConfig(final_steps=final_steps, mix_lr=lr)
    _, original, intermediate = run_recursion(config, dtype=dtype)
    assert torch.equal(original, intermediate)


def test_zero_lr_keeps_the_weight_until_the_forced_step():
    mixer, *_ = run_recursion(EditedIDConfig(mix_lr=0.0))
    assert torch.cat(mixer.weights).tolist() == [0.04] * 5 + [0.5]


def test_mixing_preserves_the_sum():
    original, intermediate = pair()
    mixed = mix(original, intermediate, torch.tensor([0.137], dtype=torch.float64))
    torch.testing.assert_close(sum(mixed), original + intermediate, atol=1e-12, rtol=0)


@pytest.mark.parametrize("normalized", [True, False])
def test_update_equals_autograd(normalized):
    """One step of gradient descent on the alignment loss of the mixed pair, equation 1."""
    original, intermediate = pair(3)
    lr = 0.01
    weight = torch.tensor([0.11], dtype=torch.float64, requires_grad=True)
    loss = squared_gap(*mix(original, intermediate, weight)).sum()
    (gradient,) = torch.autograd.grad(loss, weight)
    gap = squared_gap(original, intermediate)
    torch.testing.assert_close(gradient, -4 * (1 - 2 * weight.detach()) * gap, rtol=1e-10, atol=0)
    scale = gap if normalized else torch.ones(1, dtype=torch.float64)
    expected = weight.detach() - lr * gradient / scale
    ours = next_weight(weight.detach(), lr, gap / scale)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("lr", [0.001, 0.05, 0.125, 0.3])
def test_weight_never_falls_nor_passes_one_half(lr):
    for loss in ("normalized", "mse"):
        mixer, *_ = run_recursion(EditedIDConfig(mix_lr=lr, mix_loss=loss))
        weights = torch.cat(mixer.weights)
        assert (weights.diff() >= 0).all()
        assert (weights <= 0.5).all()


def test_large_steps_clip_to_one_half():
    mixer, *_ = run_recursion(EditedIDConfig(mix_lr=1.0, mix_loss="mse"))
    assert torch.cat(mixer.weights).tolist() == [0.04] + [0.5] * 5


@pytest.mark.parametrize(
    ("steps", "lr", "drop"),
    [
        (4, 0.033, 0.312),
        (6, 0.014, 0.206),
        (8, 0.0075, 0.153),
        (10, 0.0045, 0.126),
        (12, 0.003, 0.105),
        (20, 0.001, 0.080),
    ],
)
def test_automatic_lr(steps, lr, drop):
    """Values and largest drops from an independent evaluation of the recursion."""
    assert automatic_lr(steps, 0.04, 1) == pytest.approx(lr)
    gap, worst, u = 1.0, 0.0, 0.92
    for step in range(steps):
        after = 0.0 if step == steps - 1 else gap * u
        gap, worst, u = after, max(worst, gap - after), u * (1 - 8 * lr)
    assert worst == pytest.approx(drop, abs=1e-3)


def test_without_alignment_nothing_is_mixed():
    mixer, original, intermediate = run_recursion(EditedIDConfig(alignment=False))
    expected = pair()
    assert torch.equal(original, expected[0])
    assert torch.equal(intermediate, expected[1])
    assert mixer.weights == []


def test_pairs_have_their_own_weights():
    config = EditedIDConfig(mix_lr=0.01, mix_loss="mse")
    original, intermediate = pair(5, pairs=2)
    intermediate = torch.stack([intermediate[0], original[1] + 0.1])
    together = AdaptiveMixer(config, 2)
    together(original, intermediate)
    together(original, intermediate)
    for index in range(2):
        alone = AdaptiveMixer(config, 1)
        alone(original[index, None], intermediate[index, None])
        alone(original[index, None], intermediate[index, None])
        assert together.weights[1][index] == alone.weights[1][0]


@pytest.mark.golden
def test_mixed_inversions_on_the_analytic_score(golden_file):
    tensors = load_file(golden_file("editedid_adaptive_mixing.safetensors"))
    meta = json.loads(golden_file("editedid_adaptive_mixing.json").read_text())
    mixtures = [
        GaussianMixture(tensors[f"mu_{name}"], tensors[f"logw_{name}"], 0.05) for name in "oi"
    ]
    clean = torch.stack([tensors["z0_o"], tensors["z0_i"]])
    for run in meta["runs"]:
        config = EditedIDConfig(
            num_inference_steps=len(run["timesteps"]),
            w_init=run["w0"],
            mix_lr=run["lr"],
            final_steps=run["final_steps"],
            mix_loss=run["mode"],
            dpm_range=tuple(run["range"]) if run["range"] else None,
        )
        scheduler = HybridDDIMDPMScheduler().configured(config)
        assert scheduler.timesteps.tolist() == run["timesteps"]

        def network(sample, timestep, scheduler=scheduler):
            alpha_bar = float(scheduler.alphas_cumprod[timestep])
            rows = [m.noise_pred(x, alpha_bar) for m, x in zip(mixtures, sample[0], strict=True)]
            return torch.stack(rows)[None]

        # The golden's batch of points shares one weight: to the mixer it is one pair.
        inversion = invert_pair(clean[None], network, scheduler, AdaptiveMixer(config, 1))
        states = torch.stack(inversion.states[::-1])
        for role, name in enumerate("oi"):
            expected = tensors[f"{run['name']}.traj_{name}"]
            torch.testing.assert_close(states[:, 0, role], expected, atol=1e-8, rtol=0)
        assert torch.cat(inversion.weights).tolist() == pytest.approx(run["w"], abs=1e-8)
        assert torch.cat(inversion.gaps).tolist() == pytest.approx(run["D"], abs=1e-8)
        assert torch.equal(states[-1, 0, 0], states[-1, 0, 1])
