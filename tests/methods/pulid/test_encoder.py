import pytest
import torch

from idbench.methods.pulid.encoder import IDFormer

pytestmark = pytest.mark.golden


def state_dict(golden):
    """Official parameters; the large mapping matrices are stored as tile x row x column."""
    state = golden.part("sd.")
    for name in golden.part("sdt."):
        if name.endswith(".block"):
            key = name.removesuffix(".block")
            block = golden[f"sdt.{name}"]
            row, column = golden[f"sdt.{key}.row"], golden[f"sdt.{key}.col"]
            repeats = (-(-len(row) // block.shape[0]), -(-len(column) // block.shape[1]))
            tiled = block.repeat(*repeats)[: len(row), : len(column)]
            state[key] = tiled * row[:, None] * column[None, :]
    return state


@pytest.fixture(scope="module")
def reference(golden):
    return golden("pulid_idformer")


@pytest.fixture(scope="module")
def encoder(reference):
    model = IDFormer(**reference.meta["ctor"])
    model.load_state_dict(state_dict(reference), strict=True)
    return model.eval().requires_grad_(False)


def test_key_list_is_the_official_one(reference, encoder):
    assert sorted(encoder.state_dict()) == sorted(reference.meta["keys"])


def test_identity_tokens_match_the_official_encoder(reference, encoder):
    tokens = encoder(reference["in.id_cond"], reference.numbered("in.vit_hidden."))
    torch.testing.assert_close(tokens, reference["out.id_embedding"], atol=5e-5, rtol=0)


def test_unconditional_tokens_match_and_are_not_zero(reference, encoder):
    hidden = [torch.zeros_like(h) for h in reference.numbered("in.vit_hidden.")]
    tokens = encoder(torch.zeros_like(reference["in.id_cond"]), hidden)
    expected = reference["out.uncond"]
    torch.testing.assert_close(tokens[: len(expected)], expected, atol=5e-5, rtol=0)
    assert tokens.abs().max() > 0.1


def test_several_photos_match(reference, encoder):
    tokens = encoder(reference["in.multi_id_cond"], reference.numbered("in.multi_vit_hidden."))
    torch.testing.assert_close(tokens, reference["out.multi"], atol=5e-5, rtol=0)


def test_intermediate_mappings_match(reference, encoder):
    id_token = encoder.id_embedding_mapping(reference["in.id_cond"])
    torch.testing.assert_close(id_token, reference["out.id_token"], atol=5e-5, rtol=0)
    mapped = encoder.map_hidden(2, reference["in.vit_hidden.2"])
    torch.testing.assert_close(mapped, reference["out.mapping_2"], atol=5e-5, rtol=0)


def test_order_of_hidden_states_matters(reference, encoder):
    hidden = reference.numbered("in.vit_hidden.")
    tokens = encoder(reference["in.id_cond"], hidden[::-1])
    assert (tokens - reference["out.id_embedding"]).abs().max() > 1


def test_unit_gains_change_nothing_and_others_do(reference, encoder):
    args = reference["in.id_cond"], reference.numbered("in.vit_hidden.")
    tokens = encoder(*args)
    assert torch.equal(encoder(*args, scale_gains=(1.0,) * 5), tokens)
    assert (encoder(*args, scale_gains=(0.0, 1.0, 1.0, 1.0, 1.0)) - tokens).abs().max() > 1e-3


def test_wrong_number_of_hidden_states_is_refused(reference, encoder):
    with pytest.raises(ValueError, match="5 entries, got 4"):
        encoder(reference["in.id_cond"], reference.numbered("in.vit_hidden.")[:4])
