import math

import pytest
import torch

from idbench.methods.flexip.resampler import Resampler, ResamplerConfig, resampler_config


def built(meta):
    """The resampler that the arguments of a golden case describe."""
    args = meta["args"]
    return Resampler(
        dim=args["dim"],
        embedding_dim=args["embedding_dim"],
        output_dim=args["output_dim"],
        config=ResamplerConfig(
            **{key: args[key] for key in ("depth", "heads", "dim_head", "ff_mult")}
        ),
        num_queries=None if meta["given_queries"] else args["num_queries"],
        max_seq_len=args["max_seq_len"] if args["apply_pos_emb"] else None,
        num_latents_mean_pooled=args["num_latents_mean_pooled"],
    ).eval()


@pytest.mark.golden
def test_outputs_are_those_of_the_official_resampler(golden):
    file = golden("ip_adapter_resampler")
    cases = file.meta["meta"]["cases"]
    assert cases
    for name, meta in cases.items():
        resampler = built(meta)
        resampler.load_state_dict(file.part(f"{name}.sd."), strict=True)
        queries = file[f"{name}.in.queries"] if meta["given_queries"] else None
        found = resampler(file[f"{name}.in.x"], queries)
        torch.testing.assert_close(found, file[f"{name}.out"], atol=1e-5, rtol=0, msg=name)


def by_hand(resampler, x, queries, heads, dim_head):
    """Section 2 of the specification, written out with the scale on both sides."""

    def norm(tokens, layer):
        centred = tokens - tokens.mean(-1, keepdim=True)
        return (
            centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * layer.weight
            + layer.bias
        )

    def split(tokens):
        return tokens.reshape(*tokens.shape[:2], heads, dim_head).transpose(1, 2)

    x = x @ resampler.proj_in.weight.T + resampler.proj_in.bias
    for attention, feed in resampler.layers:
        xn, qn = norm(x, attention.norm1), norm(queries, attention.norm2)
        key, value = (torch.cat([xn, qn], 1) @ attention.to_kv.weight.T).chunk(2, -1)
        scale = dim_head**-0.25
        scores = (split(qn @ attention.to_q.weight.T) * scale) @ (split(key) * scale).mT
        mixed = (scores.softmax(-1) @ split(value)).transpose(1, 2).flatten(2)
        queries = queries + mixed @ attention.to_out.weight.T
        hidden = norm(queries, feed[0]) @ feed[1].weight.T
        gelu = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        queries = queries + gelu @ feed[3].weight.T
    return norm(queries @ resampler.proj_out.weight.T + resampler.proj_out.bias, resampler.norm_out)


def test_outputs_are_those_of_the_equations(randomised):
    config = ResamplerConfig(depth=2, heads=3, dim_head=4, ff_mult=2)
    resampler = randomised(Resampler(dim=10, embedding_dim=7, output_dim=6, config=config))
    x, queries = torch.randn(2, 5, 7), torch.randn(2, 3, 10)
    expected = by_hand(resampler, x, queries, heads=3, dim_head=4)
    torch.testing.assert_close(resampler(x, queries), expected, atol=1e-5, rtol=1e-5)


def test_the_learnable_queries_start_with_a_spread_of_one_over_the_root_of_the_width():
    torch.manual_seed(0)
    latents = Resampler(dim=768, embedding_dim=8, output_dim=8, num_queries=16).latents
    assert latents.shape == (1, 16, 768)
    assert latents.std().item() == pytest.approx(768**-0.5, rel=0.03)


def test_without_queries_it_says_what_is_missing():
    resampler = Resampler(dim=8, embedding_dim=8, output_dim=8, config=ResamplerConfig(heads=1))
    with pytest.raises(ValueError, match="no learned queries"):
        resampler(torch.zeros(1, 2, 8))


def test_more_tokens_than_positions_are_refused():
    resampler = Resampler(dim=8, embedding_dim=8, output_dim=8, num_queries=1, max_seq_len=3)
    with pytest.raises(ValueError, match="4 retrieval tokens, but positions for 3"):
        resampler(torch.zeros(1, 4, 8))


def test_sizes_out_of_range_and_unknown_ones_are_named():
    with pytest.raises(ValueError, match="depth must be at least 1, got 0"):
        resampler_config({"depth": 0})
    with pytest.raises(ValueError, match="no width; it has depth, heads"):
        resampler_config({"width": 3})
