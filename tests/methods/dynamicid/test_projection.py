import numpy as np
import pytest
import torch

from idbench.methods.dynamicid.projection import FaceProjection, FaceProjectionConfig


def config_of(meta):
    names = ("cross_attention_dim", "id_embeddings_dim", "clip_embeddings_dim", "num_tokens")
    return FaceProjectionConfig(**{name: meta[name] for name in names})


@pytest.mark.golden
@torch.no_grad()
def test_tokens_agree_with_the_official_code(cases):
    checked = 0
    for case in cases("face_projection"):
        state = case.group("state")
        if not state:
            continue
        module = FaceProjection(config_of(case.meta))
        module.load_state_dict(state, strict=True)
        given = case.group("in")
        id_embeds, clip_hidden = given["id_embeds"], given["clip_hidden"]
        for name, expected in case.group("out").items():
            if name == "tokens_zero_id":
                found = module(torch.zeros_like(id_embeds), clip_hidden)
                assert found.abs().max() > 0
            elif name.startswith("tokens_shortcut_"):
                found = module(id_embeds, clip_hidden, float(name.rpartition("_")[2]))
            else:
                found = module(id_embeds, clip_hidden)
            torch.testing.assert_close(found, expected, atol=2e-5, rtol=0, msg=name)
        checked += 1
    assert checked


@pytest.mark.golden
@torch.no_grad()
def test_full_size_agrees_with_the_official_code(full_size, fill_closed_form):
    golden = full_size("face_projection", "id_embeds")
    module = fill_closed_form(FaceProjection())
    numbers = np.arange(257 * 1280, dtype=np.float64)
    clip_hidden = np.sin(0.913 * numbers + golden.meta["c"]).reshape(1, 257, 1280)
    found = module(golden.tensors["in/id_embeds"], torch.from_numpy(clip_hidden.astype(np.float32)))
    torch.testing.assert_close(found, golden.tensors["out/tokens"], atol=1e-4, rtol=0)


def test_published_size():
    with torch.device("meta"):
        module = FaceProjection()
    assert len(module.state_dict()) == 56
    assert sum(parameter.numel() for parameter in module.parameters()) == 33_581_568


@torch.no_grad()
def test_tokens_are_normalised_by_the_last_layer():
    torch.manual_seed(0)
    module = FaceProjection(FaceProjectionConfig(clip_embeddings_dim=32, depth=1))
    norm = module.perceiver_resampler.norm_out
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    tokens = module(torch.randn(2, 512), torch.randn(2, 5, 32))
    plain = (tokens - norm.bias) / norm.weight
    torch.testing.assert_close(plain.mean(dim=-1), torch.zeros(2, 4), atol=1e-3, rtol=0)
    variance = plain.var(dim=-1, unbiased=False)
    torch.testing.assert_close(variance, torch.ones(2, 4), atol=1e-3, rtol=0)


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="multiple of 64"):
        FaceProjection(FaceProjectionConfig(cross_attention_dim=100))
