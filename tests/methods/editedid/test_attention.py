"""The processors on single attention layers, against the official code and explicit maps."""

import json
from dataclasses import replace

import pytest
import torch
from diffusers.models.attention_processor import Attention
from safetensors.torch import load_file

from idbench.methods.editedid.attention import (
    EditedIDCrossProcessor,
    EditedIDSelfProcessor,
    exchange_columns,
    exchange_rows,
    swap_tokens,
)
from idbench.methods.editedid.config import EditedIDConfig
from idbench.methods.editedid.gate import (
    AttentionalGate,
    TokenSwap,
    regions,
    resize_mask,
    swap_matrices,
)

IDENTITY = torch.arange(77)


def swap(tokens_o=(), tokens_i=(), mapper_o=IDENTITY, mapper_i=IDENTITY, windows=None):
    if windows is None:
        windows = torch.ones(51, 77)
    return TokenSwap(tuple(tokens_o), tuple(tokens_i), mapper_o, mapper_i, windows)


@pytest.fixture(scope="module")
def fusion(golden_file):
    meta = json.loads(golden_file("editedid_attention_fusion.json").read_text())
    return load_file(golden_file("editedid_attention_fusion.safetensors")), meta


def official_layer(tensors, meta, name, context_dim=None):
    layer = Attention(
        meta["dim"], context_dim, heads=meta["heads"], dim_head=meta["dim"] // meta["heads"]
    )
    state = {f"{k}.weight": tensors[f"w.{name}.{k}"] for k in ("to_q", "to_k", "to_v")}
    state |= {f"to_out.0.{k}": tensors[f"w.{name}.to_out.{k}"] for k in ("weight", "bias")}
    layer.load_state_dict(state)
    return layer.requires_grad_(False)


def parity_gate(tensors, meta, case, **settings):
    """The gate as released: down blocks, first half of the batch, window in whole steps."""
    start, end = case["window"]
    steps = max(end, case["cur_step"]) + 2
    config = EditedIDConfig(
        num_inference_steps=steps,
        overlap=tuple(case["overlap_weight"]),
        boost=tuple(float(b) for b in case["boost"]),
        self_layers=("down",),
        gate_branches="uncond",
        # Half a step above, so that rounding of the fractions cannot lose one.
        self_window=tuple(min(1.0, (b + 0.5) / steps) if b else 0.0 for b in (start, end)),
        **settings,
    )
    gate = AttentionalGate(
        config,
        tensors["mask1"],
        tensors["mask2"],
        [swap(windows=torch.ones(steps + 1, 77))],
        latent_size=meta["hw"],
    )
    gate.set_step(case["cur_step"])
    return gate


@pytest.mark.golden
def test_official_gate(fusion):
    tensors, meta = fusion
    for case in meta["cases"]:
        gate = parity_gate(tensors, meta, case)
        for place in ("down", "mid", "up"):
            name = f"{case['name']}.{place}.self"
            if name not in tensors:
                continue
            layer = official_layer(tensors, meta, f"{place}.attn1")
            acts = place in gate.config.self_layers and gate.gates_self
            layer.set_processor(EditedIDSelfProcessor(gate, gated=acts))
            torch.testing.assert_close(layer(tensors["x"]), tensors[name], atol=2e-5, rtol=0)


@pytest.mark.golden
def test_official_cross_attention_is_untouched_by_the_gate(fusion):
    tensors, meta = fusion
    context = tensors["context"]
    length = context.shape[1]
    for case in meta["cases"]:
        gate = parity_gate(tensors, meta, case)
        gate.swap = torch.zeros(1, 3, length, length)  # no element; the golden's prompt is short
        gate.swap[:, 2] = torch.eye(length)
        for place in ("down", "mid", "up"):
            name = f"{case['name']}.{place}.cross"
            if name not in tensors:
                continue
            layer = official_layer(tensors, meta, f"{place}.attn2", context.shape[-1])
            layer.set_processor(EditedIDCrossProcessor(gate))
            found = layer(tensors["x"], context)
            torch.testing.assert_close(found, tensors[name], atol=2e-5, rtol=0)


@pytest.mark.golden
def test_only_the_target_row_of_the_first_half_changes(fusion):
    """Row 2 is the weighted sum of ungated rows 0 to 2, the others stay bit for bit."""
    tensors, meta = fusion
    layer = official_layer(tensors, meta, "down.attn1")
    ungated = layer(tensors["x"])
    for case in meta["cases"]:
        gate = parity_gate(tensors, meta, case)
        layer.set_processor(EditedIDSelfProcessor(gate, gated=True))
        output = layer(tensors["x"])
        assert torch.equal(output[[0, 1, 3, 4, 5]], ungated[[0, 1, 3, 4, 5]])
        inside = case["window"][0] <= case["cur_step"] < case["window"][1]
        if inside and all(case["boost"]):
            weights = gate.regions[meta["hw"] ** 2][0]
            expected = (weights * ungated[:3]).sum(0)
            torch.testing.assert_close(output[2], expected, atol=1e-6, rtol=0)
            assert not torch.equal(output[2], ungated[2])
        else:
            assert torch.equal(output[2], ungated[2])


@pytest.mark.golden
def test_official_regions_exactly(fusion):
    tensors, _ = fusion
    for name, expected in tensors.items():
        if not name.startswith("regions."):
            continue
        _, size, weights = name.split(".", 2)
        overlap = tuple(float(w) for w in weights.split("_"))
        masks = [resize_mask(tensors[m], int(size)) for m in ("mask1", "mask2")]
        found = regions(*masks, overlap)
        assert torch.equal(found[0], expected)
        assert torch.equal(found.sum(1), torch.ones_like(found[:, 0]))


@pytest.mark.golden
def test_official_fusion_helpers(fusion):
    tensors, _ = fusion
    for name, expected in tensors.items():
        if ".out_" not in name:
            continue
        overlap = tuple(float(w) for w in name.split(".out_")[1].split("_"))
        features = tensors["fuse32.features"]
        size = round(features.shape[1] ** 0.5)
        masks = [resize_mask(tensors[m], size) for m in ("mask1", "mask2")]
        weights = regions(*masks, overlap)[0].flatten(1)[..., None]
        found = (weights * features).sum(0, keepdim=True)
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


@pytest.fixture(scope="module")
def gating(golden_file):
    meta = json.loads(golden_file("editedid_gating.json").read_text())
    return load_file(golden_file("editedid_gating.safetensors")), meta


def by_role(tensor):
    """Adds a branch and a face axis before the roles."""
    return tensor[None, None]


@pytest.mark.golden
def test_self_attention_variants(gating):
    t, meta = gating
    size = round(t["Q"].shape[2] ** 0.5)
    masks = [resize_mask(t[m], size) for m in ("mask_o", "mask_i")]
    weights = regions(*masks, (meta["a"], meta["b"])).flatten(2)
    torch.testing.assert_close(
        weights[0], torch.stack([t["w_o"], t["w_i"], t["w_t"]]), atol=1e-7, rtol=0
    )
    weights = weights[:, :, None, :, None]
    query, key, value = (by_role(t[k]) for k in "QKV")
    own = torch.nn.functional.scaled_dot_product_attention(t["Q"], t["K"], t["V"])
    for exchange, name in ((exchange_rows, "map_query"), (exchange_columns, "map_key")):
        found = exchange(query, key, value[:, :, 2], by_role(own)[:, :, 2], weights)
        torch.testing.assert_close(found[0, 0], t[f"self.{name}.out"], atol=1e-5, rtol=0)
    feature = (weights[0] * own).sum(0)
    torch.testing.assert_close(feature, t["self.feature.out"], atol=1e-5, rtol=0)


@pytest.mark.golden
def test_token_selective_cross_attention(gating):
    t, meta = gating
    chosen = swap(
        meta["tokens_o"],
        meta["tokens_i"],
        torch.tensor(meta["mapper_o"]),
        torch.tensor(meta["mapper_i"]),
    )
    matrices = swap_matrices(chosen, 0)
    maps = torch.softmax(t["Q"] @ t["Kc"].mT / t["Q"].shape[-1] ** 0.5, -1)
    swapped = torch.einsum("rhns,rst->hnt", maps, matrices)
    torch.testing.assert_close(swapped, t["cross.map"], atol=1e-5, rtol=0)
    found = swap_tokens(t["Q"][None], t["Kc"][None], t["Vc"][None, 2], matrices[None])
    torch.testing.assert_close(found[0], t["cross.out"], atol=1e-5, rtol=0)


@pytest.mark.golden
def test_refinement_with_gated_words(gating):
    t, meta = gating
    mapper = torch.tensor(meta["mapper_o"])
    assert torch.equal((mapper >= 0).float(), t["cross.alphas_o"])
    chosen = swap(mapper_o=mapper, windows=t["cross.gate"][None])
    matrices = swap_matrices(chosen, 0, rest="original")
    maps = torch.softmax(t["Q"] @ t["Kc"].mT / t["Q"].shape[-1] ** 0.5, -1)
    found = torch.einsum("rhns,rst->hnt", maps, matrices)
    torch.testing.assert_close(found, t["cross.refine_gated.map"], atol=1e-5, rtol=0)


# Properties on random layers.


def layer_and_rows(seed=0, faces=2, branches=2, positions=64, dim=24, context=None):
    torch.manual_seed(seed)
    layer = Attention(dim, context, heads=3, dim_head=8).requires_grad_(False)
    return layer, torch.randn(branches * faces * 3, positions, dim)


def random_masks(faces=2, seed=1, size=32):
    noise = torch.rand(2, faces, 1, size // 8, size // 8, generator=torch.manual_seed(seed))
    return torch.nn.functional.interpolate(noise.flatten(0, 1), size).unflatten(0, (2, faces)) > 0.5


def gate_for(config, masks=None, faces=2, branches=2, swaps=None, latent_size=8):
    mask_o, mask_i = (random_masks(faces) if masks is None else masks).float()
    return AttentionalGate(
        config,
        mask_o,
        mask_i,
        swaps or [swap()] * faces,
        latent_size=latent_size,
        branches=branches,
    )


def explicit_maps(layer, rows, context=None):
    heads = layer.heads

    def split(x):
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)

    context = rows if context is None else context
    query, key, value = (
        split(layer.to_q(rows)),
        split(layer.to_k(context)),
        split(layer.to_v(context)),
    )
    return torch.softmax(query @ key.mT / query.shape[-1] ** 0.5, -1), value


def joined(layer, attended):
    return layer.to_out[0](attended.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("variant", ["map_query", "map_key"])
def test_map_variants_equal_explicit_maps(variant):
    """The exchanged maps are built in full here."""
    layer, x = layer_and_rows()
    gate = gate_for(EditedIDConfig(self_gate=variant, overlap=(0.4, 0.6)))
    maps, value = explicit_maps(layer, x)
    by = (2, 2, 3)
    maps, value = maps.unflatten(0, by), value.unflatten(0, by)
    weights = gate.regions[64][:, :, None]  # faces roles 1 positions 1
    if variant == "map_key":
        weights = weights.mT
    mixed = (weights * maps).sum(2)
    sums = mixed.sum(-1, keepdim=True)
    if variant == "map_query":
        torch.testing.assert_close(sums, torch.ones_like(sums), atol=1e-6, rtol=0)
    expected = joined(layer, ((mixed / sums) @ value[:, :, 2]).flatten(0, 1))
    layer.set_processor(EditedIDSelfProcessor(gate, gated=True))
    found = layer(x).unflatten(0, by)[:, :, 2].flatten(0, 1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", ["feature", "map_query", "map_key"])
def test_source_rows_are_untouched(variant):
    """On a layer: rows of o and i are those of plain attention, bit for bit."""
    layer, x = layer_and_rows()
    plain = layer(x)
    layer.set_processor(
        EditedIDSelfProcessor(gate_for(EditedIDConfig(self_gate=variant)), gated=True)
    )
    found = layer(x)
    sources = torch.arange(12).view(2, 2, 3)[:, :, :2].flatten()
    assert torch.equal(found[sources], plain[sources])
    assert not torch.equal(found, plain)


def test_full_mask_of_the_original_gives_its_features_exactly():
    """On a layer, in both branches, whatever the target's latents are."""
    layer, x = layer_and_rows()
    masks = torch.stack([torch.ones(2, 1, 32, 32), torch.zeros(2, 1, 32, 32)])
    layer.set_processor(EditedIDSelfProcessor(gate_for(EditedIDConfig(), masks), gated=True))
    rows = layer(x).unflatten(0, (2, 2, 3))
    assert torch.equal(rows[:, :, 2], rows[:, :, 0])


@pytest.mark.parametrize(
    ("settings", "step"),
    [
        ({"self_window": (0.0, 0.5)}, 3),
        ({"boost": (0.0, 1.0)}, 0),
        ({"self_gate": "none"}, 0),
        ({"entanglement": False}, 0),
    ],
)
def test_closed_gates_are_plain_attention(settings, step):
    layer, x = layer_and_rows()
    plain = layer(x)
    gate = gate_for(EditedIDConfig(**settings))
    gate.set_step(step)
    layer.set_processor(EditedIDSelfProcessor(gate, gated=gate.gates_self))
    assert torch.equal(layer(x), plain)


@pytest.mark.parametrize(
    ("branches", "changed"), [("both", [0, 1]), ("uncond", [0]), ("cond", [1])]
)
def test_gate_acts_in_the_branches_asked_for(branches, changed):
    layer, x = layer_and_rows()
    plain = layer(x).unflatten(0, (2, 2, 3))
    gate = gate_for(EditedIDConfig(gate_branches=branches))
    layer.set_processor(EditedIDSelfProcessor(gate, gated=True))
    found = layer(x).unflatten(0, (2, 2, 3))
    differs = [b for b in range(2) if not torch.equal(found[b, :, 2], plain[b, :, 2])]
    assert differs == changed


def test_cross_swap_equals_explicit_column_replacement():
    """Columns of the conditional target map come from the sources by the aligner."""
    layer, x = layer_and_rows(context=16)
    context = torch.randn(12, 77, 16)
    mapper = torch.roll(IDENTITY, 2)
    mapper[5] = -1
    chosen = swap([4, 5], [9], mapper, IDENTITY)
    layer.set_processor(EditedIDCrossProcessor(gate_for(EditedIDConfig(), swaps=[chosen, swap()])))
    found = layer(x, context).unflatten(0, (2, 2, 3))
    maps, value = explicit_maps(layer, x, context)
    maps = maps.unflatten(0, (2, 2, 3))
    own = maps[1, 0, 2].clone()
    own[..., 4] = maps[1, 0, 0][..., 2]  # rolled by two; token 5 has no counterpart and stays
    own[..., 9] = maps[1, 0, 1][..., 9]
    expected = joined(layer, (own @ value.unflatten(0, (2, 2, 3))[1, 0, 2])[None])[0]
    torch.testing.assert_close(found[1, 0, 2], expected, atol=1e-5, rtol=0)
    layer.set_processor(Attention(24, heads=3, dim_head=8).processor)
    plain = layer(x, context).unflatten(0, (2, 2, 3))
    # The face without elements, and the other branch, are as they were.
    torch.testing.assert_close(found[1, 1], plain[1, 1], atol=1e-6, rtol=0)
    assert torch.equal(found[0], plain[0])
    assert torch.equal(found[:, :, :2], plain[:, :, :2])


def test_renormalised_cross_rows_sum_to_one():
    layer, x = layer_and_rows(faces=1, branches=1, context=16)
    context = torch.randn(3, 77, 16)
    context[2] = context[2] * 3
    chosen = swap(range(1, 20))
    maps, _ = explicit_maps(layer, x, context)
    own = maps[2].clone()
    own[..., 1:20] = maps[0][..., 1:20]
    assert (own.sum(-1) - 1).abs().max() > 1e-2
    expected = (own / own.sum(-1, keepdim=True)) @ explicit_maps(layer, x, context)[1][2]
    heads = explicit_maps(layer, x, context)
    query = layer.to_q(x).unflatten(-1, (3, -1)).transpose(1, 2)
    key = layer.to_k(context).unflatten(-1, (3, -1)).transpose(1, 2)
    found = swap_tokens(
        query[None],
        key[None],
        heads[1][None, 2],
        swap_matrices(chosen, 0)[None],
        renormalize=True,
    )
    torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=0)


def test_a_window_closes_the_swap_of_a_token():
    windows = torch.ones(7, 77)
    windows[3:, 4] = 0
    gate = gate_for(EditedIDConfig(), faces=1, swaps=[swap([4], windows=windows)])
    assert gate.swap[0, 0, 4, 4] == 1
    gate.set_step(3)
    assert gate.swap[0, 0].abs().sum() == 0
    assert torch.equal(gate.swap[0, 2], torch.eye(77))


def test_without_cross_swap_the_target_keeps_its_maps():
    gate = gate_for(EditedIDConfig(cross_swap=False), faces=1, swaps=[swap([4], [6])])
    assert torch.equal(gate.swap[0, 2], torch.eye(77))
    assert gate.swap[0, :2].abs().sum() == 0


def test_a_token_cannot_have_two_sources():
    with pytest.raises(ValueError, match=r"\[4\] are listed both"):
        swap([3, 4], [4])


def test_regions_partition_at_every_resolution():
    for overlap in ((0.5, 0.5), (0.3, 0.7), (2.0, 1.0)):
        gate = gate_for(EditedIDConfig(overlap=overlap), latent_size=64)
        assert sorted(gate.regions) == [64, 256, 1024, 4096]
        for weights in gate.regions.values():
            assert torch.equal(weights.sum(1), torch.ones_like(weights[:, 0]))


def test_thin_masks_vanish_and_area_any_keeps_them():
    mask = torch.zeros(1, 1, 512, 512)
    mask[..., 100:104, :] = 1  # a frame of glasses, four pixels thick
    config = EditedIDConfig()
    gate = AttentionalGate(config, torch.ones_like(mask), mask, [swap()], latent_size=64)
    assert gate.vanishing == [64, 32, 16, 8]
    kept = replace(config, mask_resize="area_any")
    gate = AttentionalGate(kept, torch.ones_like(mask), mask, [swap()], latent_size=64)
    assert gate.vanishing == []
    assert resize_mask(mask, 8, "area_any").sum() == 8
