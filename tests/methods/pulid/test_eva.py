import pytest
import torch

from idbench.methods.pulid.eva import EVATower
from idbench.methods.pulid.weights import tower_state_dict

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def reference(golden):
    return golden("pulid_eva_tower")


@pytest.fixture(scope="module")
def tower(reference):
    ctor = reference.meta["ctor"]
    model = EVATower(
        image_size=ctor["img_size"],
        patch_size=ctor["patch_size"],
        dim=ctor["embed_dim"],
        depth=ctor["depth"],
        heads=ctor["num_heads"],
        mlp_width=int(ctor["embed_dim"] * ctor["mlp_ratio"]),
        output_dim=ctor["num_classes"],
        pretrained_grid=ctor["pt_hw_seq_len"],
        eps=ctor["norm_eps"],
    )
    # as in the whole CLIP checkpoint, with a text tower and the rotary tables that are recomputed
    checkpoint = {f"visual.{key}": value for key, value in reference.part("sd.").items()}
    checkpoint["text.token_embedding.weight"] = torch.zeros(1)
    model.load_state_dict(tower_state_dict(checkpoint), strict=True)
    return model.eval().requires_grad_(False)


def test_rotary_table_matches_the_checkpoint(reference, tower):
    cos = reference["sd.rope.freqs_cos"]
    torch.testing.assert_close(tower.cos, cos.reshape(tower.cos.shape), atol=1e-6, rtol=0)
    sin = reference["sd.rope.freqs_sin"]
    torch.testing.assert_close(tower.sin, sin.reshape(tower.sin.shape), atol=1e-6, rtol=0)


def test_class_embedding_matches(reference, tower):
    cls, _ = tower(reference["in.pixel"])
    torch.testing.assert_close(cls, reference["out.cls"], atol=1e-4, rtol=0)


def test_five_hidden_states_match_in_order(reference, tower):
    _, hidden = tower(reference["in.pixel"])
    expected = reference.numbered("out.hidden.")
    assert len(hidden) == len(expected) == 5
    for ours, official in zip(hidden, expected, strict=True):
        torch.testing.assert_close(ours, official, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("position", "block"), list(enumerate((4, 8, 12, 16, 20))))
def test_hidden_states_are_the_inputs_of_these_blocks(reference, tower, position, block):
    seen = []
    handle = tower.blocks[block].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    _, hidden = tower(reference["in.pixel"])
    handle.remove()
    assert torch.equal(hidden[position], seen[0])
