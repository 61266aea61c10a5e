import torch

from idbench.methods.dynamicid.losses import (
    direct_feature_matching,
    latent_diffusion_consistency,
    noise_prediction_loss,
)


def test_losses_are_means_over_all_elements():
    predicted, target = torch.zeros(2, 4, 3), torch.full((2, 4, 3), 2.0)
    target[0, 0, 0] = 26.0  # 23 elements of 4 and one of 676: (92 + 676) / 24 = 32
    for loss in (noise_prediction_loss, direct_feature_matching, latent_diffusion_consistency):
        assert loss(predicted, target).item() == 32.0
        assert loss(target, target).item() == 0.0


def test_the_target_of_the_consistency_gets_no_gradient():
    predicted = torch.randn(3, requires_grad=True)
    target = torch.randn(3, requires_grad=True)
    latent_diffusion_consistency(predicted, target).backward()
    assert target.grad is None
    assert predicted.grad.abs().sum() > 0


def test_half_precision_is_compared_in_float32():
    predicted = torch.full((4096,), 200.0, dtype=torch.float16)
    assert noise_prediction_loss(predicted, torch.zeros_like(predicted)).item() == 40_000.0
    assert noise_prediction_loss(predicted, torch.zeros_like(predicted)).dtype == torch.float32
