"""Acceptance checks 11, 12 and 21: what is trained, by which samples, and that it learns."""

import hashlib

import pytest
import torch

from idbench.methods.common.tiny_sd15 import write_tiny_stable_diffusion
from idbench.methods.common.training import make_accelerator, read_config
from idbench.methods.flexip.model import trained_parameters
from idbench.methods.flexip.references import Features
from idbench.methods.flexip.samples import TrainingData
from idbench.methods.flexip.train import load_parts, sample_losses
from idbench.methods.flexip.training import FlexIPTrainingConfig
from idbench.methods.flexip.weights import FlexIPFiles

KEPT = {"drop_image": 0.0, "drop_text": 0.0, "drop_both": 0.0}


@pytest.fixture
def parts_of(configure):
    """Networks and data of a tiny training."""

    def build(**settings):
        config = read_config(configure(**settings), FlexIPTrainingConfig)
        files = FlexIPFiles.in_folder(config.weights, base=config.base)
        parts = load_parts(config, files, make_accelerator(config))
        data = TrainingData(
            config.data, config.samples(), micro_batch_size=config.batch_size, lanes_here=1
        )
        return parts, data

    return build


def checksum(module):
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


def test_a_step_changes_the_adapter_and_nothing_else(parts_of):
    parts, data = parts_of()
    model = parts.model
    frozen = {
        "unet": model.unet,
        "vae": parts.vae,
        "text": parts.prompts.model,
        "clip": parts.references.clip,
        "dino": parts.references.dino,
    }
    before = {name: checksum(module) for name, module in frozen.items()}
    adapter = checksum(model.adapter)
    optimizer = torch.optim.AdamW(trained_parameters(model), lr=1e-3)
    sample_losses(data[0], parts, model).mean().backward()
    assert all(parameter.grad is not None for parameter in model.adapter.parameters())
    for module in frozen.values():
        assert all(parameter.grad is None for parameter in module.parameters())
    optimizer.step()
    assert {name: checksum(module) for name, module in frozen.items()} == before
    assert checksum(model.adapter) != adapter


def test_only_the_adapter_is_optimised(parts_of):
    parts, _ = parts_of()
    given = {id(parameter) for parameter in trained_parameters(parts.model)}
    assert given == {id(parameter) for parameter in parts.model.adapter.parameters()}


def gradients(parts, batch, varied):
    """Largest gradient of each branch for a batch of one modality."""
    parts.model.zero_grad()
    features = parts.references.encode(batch.clip_pixels, batch.dino_pixels)
    predicted = parts.model(
        batch.noise,
        batch.timesteps,
        parts.prompts.tokens(batch.captions),
        features,
        torch.full_like(batch.varied, varied),
        batch.jitter,
    )
    predicted.square().mean().backward()
    adapter = parts.model.adapter
    found = {"p": list(adapter.preservation.parameters()), "s": []}
    found["s"] = list(adapter.personalization.parameters())
    for layer in adapter.layers().values():
        found["p"] += [layer.to_k_p.weight, layer.to_v_p.weight]
        found["s"] += [layer.to_k_s.weight, layer.to_v_s.weight]
    return {name: [p.grad.abs().max().item() for p in entries] for name, entries in found.items()}


def test_images_alone_train_preservation_alone_at_alpha_one(parts_of):
    parts, data = parts_of(alpha=1.0)
    found = gradients(parts, data[0], varied=False)
    assert max(found["s"]) == 0.0
    assert min(found["p"]) > 0.0


def test_videos_alone_train_personalization_alone_at_beta_one(parts_of):
    parts, data = parts_of(beta=1.0)
    found = gradients(parts, data[0], varied=True)
    assert max(found["p"]) == 0.0
    assert min(found["s"]) > 0.0


@pytest.mark.parametrize("varied", [False, True])
def test_with_the_default_gates_every_sample_trains_both(parts_of, varied):
    parts, data = parts_of()
    found = gradients(parts, data[0], varied)
    assert min(found["p"]) > 0.0
    assert min(found["s"]) > 0.0


def test_the_static_gate_is_half_for_everyone(parts_of):
    parts, _ = parts_of(static_gate=True)
    assert parts.model.gate(torch.tensor([False, True])).tolist() == [0.5, 0.5]


def test_learned_gates_are_optimised_too(parts_of):
    parts, data = parts_of(learn_gate=True)
    assert any(p is parts.model.gate.logits for p in trained_parameters(parts.model))
    sample_losses(data[0], parts, parts.model).mean().backward()
    assert (parts.model.gate.logits.grad != 0).all()


def test_dropped_samples_see_zeros_and_the_empty_prompt(parts_of):
    """The loss of a dropped sample is that of zero features and the empty prompt, by hand."""
    parts, data = parts_of(drop_both=1.0, drop_image=0.0, drop_text=0.0)
    batch = data[0]
    assert batch.drop_image.all()
    with torch.no_grad():
        found = sample_losses(batch, parts, parts.model)
        noisy = parts.schedule.add_noise(parts.latents(batch), batch.noise, batch.timesteps)
        count = len(batch.captions)
        predicted = parts.model(
            noisy,
            batch.timesteps,
            parts.prompts.tokens([""] * count),
            Features(torch.zeros(count, 1, 32), torch.zeros(count, 4, 24)),
            batch.varied,
        )
    expected = (predicted - batch.noise).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(found, expected)


def test_noisy_latents_are_those_of_the_schedule(parts_of):
    """sqrt(abar) z + sqrt(1 - abar) eps, with abar from the betas of Stable Diffusion 1.5."""
    parts, data = parts_of()
    batch = data[0]
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alpha_bar = (1 - betas).cumprod(0)[batch.timesteps][:, None, None, None]
    latents = parts.latents(batch)
    expected = alpha_bar.sqrt() * latents + (1 - alpha_bar).sqrt() * batch.noise
    found = parts.schedule.add_noise(latents, batch.noise, batch.timesteps)
    torch.testing.assert_close(found, expected.float(), atol=1e-5, rtol=1e-5)


def test_four_samples_are_learned_by_heart(parts_of, tmp_path):
    write_tiny_stable_diffusion(tmp_path / "wide", (32, 32))
    parts, data = parts_of(base=str(tmp_path / "wide"), **KEPT)
    batch = data[0]
    assert len(batch.captions) == 4
    with torch.no_grad():  # what does not change from step to step is made once
        noisy = parts.schedule.add_noise(parts.latents(batch), batch.noise, batch.timesteps)
        features = parts.references.encode(batch.clip_pixels, batch.dino_pixels)
        text = parts.prompts.tokens(batch.captions)
    optimizer = torch.optim.AdamW(trained_parameters(parts.model), lr=0.01, weight_decay=0.01)
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        predicted = parts.model(noisy, batch.timesteps, text, features, batch.varied)
        loss = (predicted - batch.noise).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0], (losses[0], losses[-1])
