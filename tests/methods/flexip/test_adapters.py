"""Acceptance checks 7 to 9 of the specification."""

import pytest
import torch

from idbench.methods.common.perceiver import attend
from idbench.methods.flexip.adapters import PersonalizationAdapter, PreservationAdapter
from idbench.methods.flexip.resampler import ResamplerConfig

SMALL = ResamplerConfig(depth=2, heads=2, dim_head=8, ff_mult=2)
WIDTH = 768  # of text tokens and of what the adapters give


def preservation(randomised, **settings):
    return randomised(
        PreservationAdapter(class_dim=12, patch_dim=10, learnable=SMALL, cls=SMALL, **settings),
        std=0.1,
    )


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    return torch.randn(2, 1, 12), torch.randn(2, 9, 10)


@pytest.mark.parametrize(
    ("settings", "references", "tokens"),
    [
        ({}, 1, 17),
        ({}, 4, 20),
        ({"use_cls": False}, 1, 16),
        ({"use_cls": False}, 4, 16),
        ({"use_learnable": False}, 1, 1),
        ({"num_learnable": 5}, 2, 7),
    ],
)
def test_number_of_preservation_tokens(randomised, settings, references, tokens):
    adapter = preservation(randomised, **settings)
    found = adapter(torch.randn(3, references, 12), torch.randn(3, 9, 10))
    assert found.shape == (3, tokens, WIDTH)


def test_there_are_as_many_personalization_tokens_as_text_tokens(randomised):
    adapter = randomised(PersonalizationAdapter(class_dim=12, config=SMALL), std=0.1)
    assert adapter(torch.randn(3, 77, WIDTH), torch.randn(3, 1, 12)).shape == (3, 77, WIDTH)


def test_patches_have_no_order(randomised, inputs):
    adapter = preservation(randomised)
    token, patches = inputs
    shuffled = patches[:, torch.randperm(9)]
    torch.testing.assert_close(adapter(token, shuffled), adapter(token, patches), atol=1e-5, rtol=0)


def test_with_positions_patches_have_an_order(randomised, inputs):
    adapter = preservation(randomised, num_positions=9)
    token, patches = inputs
    difference = adapter(token, patches.flip(1)) - adapter(token, patches)
    assert difference.abs().max() > 1e-3


def test_the_two_resamplers_are_independent(randomised, inputs):
    """The class token moves the last token alone, and the learnable tokens not at all."""
    adapter = preservation(randomised)
    token, patches = inputs
    first, second = adapter(token, patches), adapter(token + 1, patches)
    assert torch.equal(first[:, :16], second[:, :16])
    assert (first[:, 16] - second[:, 16]).abs().max() > 1e-3


def test_permuted_text_gives_permuted_tokens(randomised):
    adapter = randomised(PersonalizationAdapter(class_dim=12, config=SMALL), std=0.1)
    text, token = torch.randn(2, 7, WIDTH), torch.randn(2, 1, 12)
    order = torch.randperm(7)
    found = adapter(text[:, order], token)
    torch.testing.assert_close(found, adapter(text, token)[:, order], atol=1e-5, rtol=0)


def test_different_words_stay_different(randomised):
    adapter = randomised(PersonalizationAdapter(class_dim=12, config=SMALL), std=0.1)
    text = torch.randn(1, 2, WIDTH)
    tokens = adapter(text, torch.randn(1, 1, 12))
    assert (tokens[0, 0] - tokens[0, 1]).norm() > 0.1 * tokens[0, 0].norm()


def test_with_the_class_token_as_only_key_all_words_would_get_the_same(randomised):
    """The negative control: why the queries are keys as well."""
    layer = randomised(PersonalizationAdapter(class_dim=12, config=SMALL)).resampler_t.layers[0][0]
    text, token = torch.randn(1, 5, WIDTH), torch.randn(1, 1, WIDTH)
    key, value = layer.to_kv(layer.norm1(token)).chunk(2, dim=-1)
    alone = attend(layer.to_q(layer.norm2(text)), key, value, layer.heads)
    torch.testing.assert_close(alone, alone[:, :1].expand_as(alone))
    together = layer(token, text)
    assert (together[0, 0] - together[0, 1]).abs().max() > 1e-3


def test_an_adapter_of_nothing_is_refused():
    with pytest.raises(ValueError, match="one must be on"):
        PreservationAdapter(use_learnable=False, use_cls=False)
