"""Acceptance checks 2 to 6 of the specification."""

import pytest
import torch
from diffusers.models.attention_processor import Attention, IPAdapterAttnProcessor2_0

from idbench.methods.flexip.attention import GatedContext, GatedCrossAttention, GatedKeyValues
from idbench.methods.flexip.gate import Gate

NAME = "attn2"


def gated(attn, key_values, text, p, s, gamma, scale=1.0, hidden=None, **settings):
    """Output of the layer with this gate."""
    processor = GatedCrossAttention(NAME, key_values, **settings)
    context = GatedContext(text, p, s, {NAME: Gate(gamma, scale)}, {})
    return processor(attn, hidden, context)


@pytest.fixture(scope="module")
def official(golden):
    """The layer of the golden file, and its inputs."""
    file = golden("ip_adapter_attn")
    args = file.meta["meta"]["args"]
    attn = Attention(
        query_dim=args["dim"],
        cross_attention_dim=args["ctx_dim"],
        heads=args["heads"],
        dim_head=args["dim"] // args["heads"],
    )
    weights = file.part("sd.attn.")
    attn.load_state_dict(weights, strict=True)
    key_values = GatedKeyValues(args["ctx_dim"], args["dim"])
    key_values.load_state_dict(
        {
            f"to_{kind}_{branch}.weight": file[f"sd.{branch}.to_{kind}_ip.weight"]
            for branch in "ps"
            for kind in "kv"
        }
    )
    inputs = (file["in.text"], file["in.p_tokens"], file["in.s_tokens"])
    return file, attn.eval(), key_values, inputs


@pytest.mark.golden
def test_text_alone_is_that_of_the_base_model(official):
    file, attn, key_values, (text, p, s) = official
    hidden = file["in.hidden_states"]
    expected = file["out.text_only"]
    found = gated(attn, key_values, text, p, s, 0.5, scale=0.0, hidden=hidden)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    plain = GatedCrossAttention(NAME, key_values)(attn, hidden, text)
    torch.testing.assert_close(plain, expected, atol=1e-5, rtol=0)


@pytest.mark.golden
@pytest.mark.parametrize(("branch", "gamma"), [("p", 1.0), ("s", 0.0)])
def test_one_branch_is_an_ip_adapter(official, branch, gamma):
    file, attn, key_values, (text, p, s) = official
    scales = file.meta["meta"]["args"]["scales"]
    assert scales
    for scale in scales:
        found = gated(
            attn, key_values, text, p, s, gamma, scale=scale, hidden=file["in.hidden_states"]
        )
        expected = file[f"out.{branch}_scale_{scale}"]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.golden
def test_gated_outputs_are_those_composed_of_official_runs(official):
    file, attn, key_values, (text, p, s) = official
    gammas = file.meta["meta"]["args"]["gammas"]
    assert gammas
    for gamma in gammas:
        found = gated(attn, key_values, text, p, s, gamma, hidden=file["in.hidden_states"])
        torch.testing.assert_close(found, file[f"out.gated_{gamma}"], atol=1e-5, rtol=0)


@pytest.fixture
def layer(randomised):
    """A layer with random weights, and random inputs: hidden states, text, P and S."""
    attn = randomised(Attention(query_dim=24, cross_attention_dim=20, heads=3, dim_head=8))
    key_values = randomised(GatedKeyValues(20, 24), seed=1)
    torch.manual_seed(2)
    hidden, text = torch.randn(3, 10, 24), torch.randn(3, 7, 20)
    return attn, key_values, hidden, text, torch.randn(3, 5, 20), torch.randn(3, 7, 20)


@pytest.mark.parametrize("text_branch", ["keep", "replace"])
def test_at_the_ends_the_other_branch_has_no_influence_to_the_last_bit(layer, text_branch):
    attn, key_values, hidden, text, p, s = layer
    for gamma, changed in ((1.0, (p, torch.randn_like(s))), (0.0, (torch.randn_like(p), s))):
        one = gated(attn, key_values, text, p, s, gamma, hidden=hidden, text_branch=text_branch)
        two = gated(attn, key_values, text, *changed, gamma, hidden=hidden, text_branch=text_branch)
        assert torch.equal(one, two)
        between = [
            gated(attn, key_values, text, *tokens, 0.5, hidden=hidden, text_branch=text_branch)
            for tokens in ((p, s), changed)
        ]
        assert not torch.equal(*between)


@pytest.mark.parametrize("gamma", [1.0, 0.0])
def test_the_ends_hold_for_a_gamma_per_sample_too(layer, gamma):
    attn, key_values, hidden, text, p, s = layer
    per_sample = torch.full((3,), gamma)
    changed = (p, torch.randn_like(s)) if gamma else (torch.randn_like(p), s)
    one = gated(attn, key_values, text, p, s, per_sample, hidden=hidden)
    assert torch.equal(one, gated(attn, key_values, text, *changed, per_sample, hidden=hidden))


def test_the_output_is_affine_in_gamma(layer):
    attn, key_values, hidden, text, p, s = layer
    out = {
        gamma: gated(attn, key_values, text, p, s, gamma, scale=0.7, hidden=hidden)
        for gamma in (0.0, 0.25, 0.5, 1.0)
    }
    torch.testing.assert_close(out[0.25], 0.75 * out[0.0] + 0.25 * out[1.0], atol=1e-5, rtol=0)
    torch.testing.assert_close(out[0.5], (out[0.0] + out[1.0]) / 2, atol=1e-5, rtol=0)


def branch_alone(attn, tokens, to_k, to_v, hidden):
    """softmax(q k^T / sqrt d) v in float64, written out."""
    heads, width = attn.heads, 8
    query, key, value = (
        (x.double() @ layer.weight.double().T).unflatten(-1, (heads, width)).transpose(1, 2)
        for x, layer in ((hidden, attn.to_q), (tokens, to_k), (tokens, to_v))
    )
    weights = (query @ key.mT / width**0.5).softmax(-1)
    return (weights @ value).transpose(1, 2).flatten(2)


def test_the_way_from_one_end_to_the_other_is_the_difference_of_the_branches(layer):
    attn, kv, hidden, text, p, s = layer
    scale = 0.7
    a_p = branch_alone(attn, p, kv.to_k_p, kv.to_v_p, hidden)
    a_s = branch_alone(attn, s, kv.to_k_s, kv.to_v_s, hidden)
    at_zero = gated(attn, kv, text, p, s, 0.0, scale=scale, hidden=hidden)
    for gamma in (0.3, 1.0):
        found = gated(attn, kv, text, p, s, gamma, scale=scale, hidden=hidden) - at_zero
        expected = gamma * scale * (a_p - a_s) @ attn.to_out[0].weight.double().T
        torch.testing.assert_close(found, expected.float(), atol=1e-5, rtol=0)


def test_a_replaced_text_branch_leaves_the_two_branches(layer):
    attn, kv, hidden, text, p, s = layer
    found = gated(attn, kv, text, p, s, 0.4, hidden=hidden, text_branch="replace")
    a_p = branch_alone(attn, p, kv.to_k_p, kv.to_v_p, hidden)
    a_s = branch_alone(attn, s, kv.to_k_s, kv.to_v_s, hidden)
    out = attn.to_out[0]
    expected = (0.4 * a_p + 0.6 * a_s) @ out.weight.double().T + out.bias.double()
    torch.testing.assert_close(found, expected.float(), atol=1e-5, rtol=0)


def test_a_gamma_per_sample_is_each_sample_by_itself(layer):
    attn, key_values, hidden, text, p, s = layer
    gammas = [0.0, 0.5, 1.0]
    together = gated(attn, key_values, text, p, s, torch.tensor(gammas), hidden=hidden)
    for row, gamma in enumerate(gammas):
        one = slice(row, row + 1)
        alone = gated(attn, key_values, text[one], p[one], s[one], gamma, hidden=hidden[one])
        torch.testing.assert_close(together[one], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
def test_it_is_the_two_adapter_attention_of_diffusers(layer, gamma):
    attn, key_values, hidden, text, p, s = layer
    scale = 0.8
    native = IPAdapterAttnProcessor2_0(
        24, 20, num_tokens=(5, 7), scale=[scale * gamma, scale * (1 - gamma)]
    )
    native.load_state_dict(
        {
            f"to_{kind}_ip.{place}.weight": getattr(key_values, f"to_{kind}_{branch}").weight
            for place, branch in enumerate("ps")
            for kind in "kv"
        }
    )
    expected = native(attn, hidden, (text, [p, s]))
    found = gated(attn, key_values, text, p, s, gamma, scale=scale, hidden=hidden)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_keys_and_values_made_before_change_nothing(layer):
    attn, key_values, hidden, text, p, s = layer
    processor = GatedCrossAttention(NAME, key_values)
    context = GatedContext(text, p, s, {NAME: Gate(0.3)}, {})
    made = context._replace(projections={NAME: processor.project(attn, context)})
    assert torch.equal(processor(attn, hidden, made), processor(attn, hidden, context))


def test_masks_are_refused(layer):
    attn, key_values, hidden, text, _, _ = layer
    with pytest.raises(ValueError, match="without masks"):
        GatedCrossAttention(NAME, key_values)(attn, hidden, text, torch.ones(3, 7))
