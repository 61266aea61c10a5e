import pytest
import torch

from idbench.methods.flexip.gate import Gate, Gates, TrainingGate

LAYERS = ("down_blocks.0.a.attn2", "up_blocks.1.a.attn2", "up_blocks.10.a.attn2", "mid_block.attn2")


@pytest.mark.parametrize("gamma", [-0.01, 1.01, float("nan")])
def test_gamma_outside_its_range_is_refused(gamma):
    with pytest.raises(ValueError, match=r"gamma must be in \[0, 1\]"):
        Gate(gamma)


@pytest.mark.parametrize("scale", [-1.0, float("inf"), float("nan")])
def test_scale_outside_its_range_is_refused(scale):
    with pytest.raises(ValueError, match="scale must be at least 0"):
        Gate(0.5, scale)


def test_weights_of_the_branches():
    assert Gate(0.25, 2.0).weights == (0.5, 1.5)


def test_layers_take_the_longest_key():
    gates = Gates(
        gamma=0.5,
        scale=2.0,
        layer_gamma={"up_blocks": 0.1, "up_blocks.1": 0.9},
        layer_scale={"down_blocks": 0.5, "mid_block.attn2": 0.0},
    ).of_layers(LAYERS)
    assert gates["down_blocks.0.a.attn2"] == Gate(0.5, 1.0)
    assert gates["up_blocks.1.a.attn2"] == Gate(0.9, 2.0)
    assert gates["up_blocks.10.a.attn2"] == Gate(0.1, 2.0)  # not a part of up_blocks.1
    assert gates["mid_block.attn2"] == Gate(0.5, 0.0)


def test_a_key_of_no_layer_is_named():
    with pytest.raises(ValueError, match="layer_scale has 'left_block'"):
        Gates(gamma=0.5, layer_scale={"left_block": 1.0}).of_layers(LAYERS)


def test_training_gamma_is_alpha_for_images_and_one_minus_beta_for_videos():
    gamma = TrainingGate(alpha=0.9, beta=0.7)(torch.tensor([False, True, False]))
    torch.testing.assert_close(gamma, torch.tensor([0.9, 0.3, 0.9]))


def test_learned_gates_start_at_alpha_and_beta():
    gate = TrainingGate(alpha=0.9, beta=0.9, learn=True)
    torch.testing.assert_close(gate.logits, torch.tensor([2.1972, 2.1972]), atol=1e-4, rtol=0)
    gamma = gate(torch.tensor([False, True]))
    torch.testing.assert_close(gamma, torch.tensor([0.9, 0.1]))
    gamma.sum().backward()
    assert (gate.logits.grad != 0).all()


def test_a_fixed_gate_has_no_parameters():
    assert not list(TrainingGate().parameters())


def test_jitter_keeps_gamma_in_its_range():
    gate = TrainingGate(alpha=0.9, beta=0.9)
    gamma = gate(torch.tensor([False, True, False]), torch.tensor([0.3, -0.3, -0.1]))
    torch.testing.assert_close(gamma, torch.tensor([1.0, 0.0, 0.8]))


def test_gates_at_an_end_cannot_be_learned():
    with pytest.raises(ValueError, match=r"alpha must be inside \(0, 1\)"):
        TrainingGate(alpha=1.0, learn=True)
