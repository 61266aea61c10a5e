import pytest
import torch

from idbench.methods.editidv2.losses import (
    cosine_decay,
    differentiable_id_loss,
    diffusion_loss,
    id_distance,
    interpolate,
    learning_rate_factor,
    official_id_loss,
    predicted_latents,
    train_timesteps,
)
from idbench.methods.editidv2.model import TrainableFlux
from idbench.methods.pulid.injection import IDInjector


@pytest.fixture(scope="module")
def reference(golden):
    return golden("editid_train_loss")


@pytest.mark.golden
def test_time_grid_is_the_official_one(reference):
    expected = reference["out.train_timesteps"].float()
    torch.testing.assert_close(train_timesteps(), expected, atol=1e-6, rtol=0)


def test_time_grid_by_the_specification():
    levels = train_timesteps()
    assert levels[0] == 1
    assert levels[999] == 0
    assert levels[500].item() == pytest.approx(0.759145, abs=1e-6)
    assert levels.mean().item() == pytest.approx(0.6834, abs=1e-4)


@pytest.fixture(scope="module")
def step(reference, tiny_flux):
    """One optimizer step as in the official script: accumulation, clipping, AdamW."""
    transformer, modules = tiny_flux("editid_train_loss")
    transformer.enable_gradient_checkpointing()
    model = TrainableFlux(transformer.train(), IDInjector(modules))
    settings = dict(reference.meta["optimizer"])
    optimizer = torch.optim.AdamW(
        model.injector.parameters(),
        lr=settings["lr"],
        betas=tuple(settings["betas"]),
        weight_decay=settings["weight_decay"],
        eps=settings["eps"],
    )
    # the reference's own levels: a last place of t is a visible phase of its 1000-fold embedding
    levels = reference["out.train_timesteps"].float()
    latents, noise = reference["in.x1"], reference["in.noise"]
    seen = {"x_t": [], "pred": [], "x0_hat_packed": [], "loss": []}
    indices = reference["in.t_index"]
    assert len(indices) == reference.meta["accumulation"]
    for index in indices:
        t = levels[index].expand(len(latents))
        x_t = interpolate(latents, noise, t)
        pred = model(
            x_t,
            t,
            prompt_embeds=reference["in.txt"],
            pooled_prompt_embeds=reference["in.y"],
            image_ids=reference["in.img_ids"].reshape(-1, *reference["in.img_ids"].shape[-2:])[0],
            identity_tokens=reference["in.id"],
            id_weight=reference.meta["id_weight"],
            guidance_scale=reference.meta["guidance"],
        )
        loss = diffusion_loss(pred, latents, noise)
        (loss / len(indices)).backward()
        seen["x_t"].append(x_t)
        seen["pred"].append(pred.detach())
        seen["x0_hat_packed"].append(predicted_latents(x_t, pred, t).detach())
        seen["loss"].append(loss.detach())
    names = dict(model.injector.named_parameters())
    gradients = {name: parameter.grad.clone() for name, parameter in names.items()}
    norm = torch.nn.utils.clip_grad_norm_(names.values(), settings["max_grad_norm"])
    optimizer.step()
    return model, seen, gradients, norm


@pytest.mark.golden
@pytest.mark.parametrize("name", ["x_t", "pred", "x0_hat_packed"])
def test_each_micro_step_matches(reference, step, name):
    _, seen, _, _ = step
    for index, ours in enumerate(seen[name]):
        torch.testing.assert_close(ours, reference[f"out.{index}.{name}"], atol=2e-5, rtol=0)


@pytest.mark.golden
def test_losses_match(reference, step):
    _, seen, _, _ = step
    losses = torch.stack(seen["loss"])
    torch.testing.assert_close(losses, reference["out.diffusion_loss"], atol=1e-5, rtol=0)


@pytest.mark.golden
def test_every_gradient_matches(reference, step):
    _, _, gradients, _ = step
    expected = reference.part("out.grad.")
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, atol=1e-6, rtol=1e-4)


@pytest.mark.golden
def test_gradient_norm_matches(reference, step):
    _, _, _, norm = step
    torch.testing.assert_close(norm, reference["out.grad_norm"], atol=0, rtol=1e-5)


@pytest.mark.golden
def test_parameters_after_the_step_match(reference, step):
    model, _, _, _ = step
    expected = reference.part("out.after_step.")
    for name, parameter in model.injector.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], atol=5e-6, rtol=0)


@pytest.mark.golden
def test_the_transformer_gets_no_gradient(step):
    model, _, _, _ = step
    assert all(parameter.grad is None for parameter in model.transformer.parameters())
    assert not any(parameter.requires_grad for parameter in model.transformer.parameters())


@pytest.mark.golden
def test_official_id_loss_matches(reference):
    loss = official_id_loss(reference["in.id_gen"], reference["in.id_ref"])
    torch.testing.assert_close(loss, reference["out.id_loss"].reshape(()), atol=1e-6, rtol=0)
    assert loss.requires_grad == reference.meta["id_loss_requires_grad"]
    pair = official_id_loss(reference["in.id_gen"][1:2], reference["in.id_ref"][1:2])
    expected = reference["out.id_loss_largest_face"].reshape(())
    torch.testing.assert_close(pair, expected, atol=1e-6, rtol=0)


@pytest.mark.golden
def test_zero_reference_is_one_officially_and_nothing_differentiably(reference):
    generated = reference["in.id_gen"]
    zero = torch.zeros_like(reference["in.id_ref"])
    assert official_id_loss(generated, zero) == reference["out.id_loss_zero_ref"].reshape(()) == 1
    found = torch.ones(len(zero), dtype=torch.bool)
    loss = differentiable_id_loss(generated, zero, found, torch.zeros(len(zero)))
    assert loss == 0


def test_distance_by_hand():
    a = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]])
    b = torch.tensor([[4.0, 3.0], [-2.0, 0.0], [1.0, 0.0]])
    torch.testing.assert_close(id_distance(a, b), torch.tensor([1 - 24 / 25, 2.0, 1.0]))


def test_faces_not_found_and_noisy_levels_contribute_nothing():
    reference = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    found = torch.tensor([True, False, True])
    embeddings = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], requires_grad=True)
    # the first counts 1 - 0, the second shows no face, the third is above t = 0.6
    t = torch.tensor([0.6, 0.1, 0.61])
    loss = differentiable_id_loss(embeddings, reference, found, t)
    assert loss.item() == pytest.approx(1 / 3)
    loss.backward()
    assert embeddings.grad[0].abs().sum() > 0
    assert embeddings.grad[1].abs().sum() == 0


def test_no_face_at_all_is_a_zero_loss():
    found = torch.zeros(2, dtype=torch.bool)
    assert differentiable_id_loss(None, torch.ones(2, 4), found, torch.zeros(2)) == 0


@pytest.mark.parametrize(
    ("step", "beta"), [(0, 1), (5, 0.8536), (10, 0.5), (15, 0.1464), (19, 0.0062)]
)
def test_cosine_decay(step, beta):
    assert cosine_decay(step, 20) == pytest.approx(beta, abs=5e-5)


def test_learning_rate_schedules():
    cosine = learning_rate_factor("cosine", warmup=2, steps=12)
    assert [cosine(i) for i in (0, 1, 2)] == [0.5, 1.0, 1.0]
    assert cosine(7) == pytest.approx(0.5)
    assert cosine(12) == pytest.approx(0.0)
    constant = learning_rate_factor("constant", warmup=0, steps=12)
    assert [constant(i) for i in (0, 11)] == [1.0, 1.0]
