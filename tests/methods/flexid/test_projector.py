import re

import pytest
import torch

from idbench.methods.flexid.face_vit import FaceViT
from idbench.methods.flexid.fuser import TextFaceFuser
from idbench.methods.flexid.projector import SemanticIdentityProjector
from idbench.methods.flexid.residual import difference, moved, scaled
from idbench.methods.flexid.weights import build_face_t5, face_t5_state

pytestmark = pytest.mark.golden
TOLERANCE = {"atol": 1e-4, "rtol": 0}


@pytest.fixture(scope="module")
def reference(golden):
    return golden("faceclip_fuser")


def build(reference, state=None):
    args = reference.meta["meta"]["args"]
    state = reference.part("sd.") if state is None else state
    return build_face_t5(
        face_t5_state(state), "golden", vit_heads=args["vit_heads"], fuser_heads=args["nhead"]
    )


@pytest.fixture(scope="module")
def network(reference):
    return build(reference)


@pytest.fixture(scope="module")
def projector(network):
    return SemanticIdentityProjector(network=network, face_tokens=network.face_tokens)


def test_intermediate_tensors_are_the_official_ones(network, reference):
    tokens = network.face_encoder(reference["in.image"])
    torch.testing.assert_close(tokens, reference["mid.face_patch_tokens"], **TOLERANCE)
    face = network.face_tokens(reference["in.image"])
    torch.testing.assert_close(face, reference["mid.face_patch_proj"], **TOLERANCE)
    text = reference["in.text"]
    positions = network.positional_embedding[:, : text.shape[1]]
    torch.testing.assert_close(positions, reference["mid.text_pos"], **TOLERANCE)
    encoder = network.fuser.encoder
    face, text = encoder.fusion_layers[0](face, text)
    torch.testing.assert_close(face, reference["mid.fusion0_v"], **TOLERANCE)
    torch.testing.assert_close(text, reference["mid.fusion0_l"], **TOLERANCE)
    first = encoder.text_layers[0](text, positions)
    torch.testing.assert_close(first, reference["mid.text_layer0"], **TOLERANCE)


def test_fused_text_is_the_official_one_of_single_images(network, reference):
    text, images = reference["in.text"], reference["in.image"]
    for name, faces in (("out.fused", images), ("out.fused_zero_face", torch.zeros_like(images))):
        together = network.fuse(text, network.face_tokens(faces))
        torch.testing.assert_close(together, reference[name], **TOLERANCE)
        for index in range(len(text)):
            one = slice(index, index + 1)
            alone = network.fuse(text[one], network.face_tokens(faces[one]))
            torch.testing.assert_close(together[one], alone, atol=1e-5, rtol=0)
    fused = network.fuse(text, network.face_tokens(images))
    if len(text) > 1 and len(network.fuser.encoder.layers) > 0:
        assert (fused - reference["out.fused_batched"]).abs().max() > 1e-3


def test_residuals_are_the_reference(projector, network, reference):
    text, images = reference["in.text"], reference["in.image"]
    fused = network.fuse(text, network.face_tokens(images))
    null = network.fuse(text, network.face_tokens(torch.zeros_like(images)))
    for kind in ("contrast", "toward"):
        delta = difference(kind, fused, null, text)
        torch.testing.assert_close(delta, reference[f"out.delta_{kind}"], **TOLERANCE)
    assert torch.equal(difference("literal", fused, None, text), fused)
    normed = projector(text, images)
    torch.testing.assert_close(normed, reference["out.delta_contrast_normed"], **TOLERANCE)
    result = moved(text, torch.full([len(text)], 0.1), normed)
    torch.testing.assert_close(result, reference["out.residual_alpha_0.1"], **TOLERANCE)


@pytest.mark.parametrize("alpha", [0.004, 0.1, 0.294])
def test_the_relative_size_of_the_edit_is_alpha(projector, reference, alpha):
    text = reference["in.text"]
    delta = projector(text, reference["in.image"])
    edit = moved(text, torch.full([len(text)], alpha), delta).double() - text.double()
    ratio = edit.norm(dim=(1, 2)) / text.double().norm(dim=(1, 2))
    torch.testing.assert_close(ratio, torch.full_like(ratio, alpha), rtol=1e-5, atol=0)


def test_a_null_face_changes_no_bit(projector, reference):
    text = reference["in.text"]
    delta = projector(text, torch.zeros_like(reference["in.image"]))
    assert not delta.any()
    assert torch.equal(moved(text, torch.full([len(text)], 0.3), delta), text)


def test_token_norm_and_mask():
    text = torch.tensor([[[3.0, 4.0], [0.0, 2.0], [1.0, 1.0]]])
    delta = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [5.0, 5.0]]])
    per_token = scaled(delta, text, "token")
    torch.testing.assert_close(per_token[0, :2], torch.tensor([[0.0, 5.0], [2.0, 0.0]]))
    masked = scaled(delta, text, "sample", torch.tensor([[True, True, False]]))
    size = (29 / 2) ** 0.5  # |E| of the first two tokens is sqrt(29), |delta| sqrt(2)
    expected = torch.tensor([[[0.0, size], [size, 0.0], [0.0, 0.0]]])
    torch.testing.assert_close(masked, expected)
    assert torch.equal(scaled(delta, text, "none"), delta)


def test_short_texts_use_the_first_positions_and_long_ones_are_refused(network, reference):
    text, face = reference["in.text"], network.face_tokens(reference["in.image"])
    assert network.fuse(text[:, :3], face).shape == text[:, :3].shape
    with pytest.raises(ValueError, match="the fuser takes up to"):
        network.fuse(text[:, :1].expand(-1, network.positional_embedding.shape[1] + 1, -1), face)


def test_the_wrapped_file_loads_and_leftovers_are_ignored(reference, network):
    wrapped = {f"encoder_2.{key}": value for key, value in reference.part("sd.").items()}
    wrapped["encoder_1.text_model.final_layer_norm.weight"] = torch.ones(2)
    wrapped["encoder_2.t5_encoder.block.0.weight"] = torch.ones(2)
    assert any("enc_output" in key for key in wrapped)
    loaded = build(reference, wrapped).state_dict()
    assert loaded.keys() == network.state_dict().keys()
    assert all(torch.equal(loaded[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    "key",
    [
        "face_encoder.blocks.0.attn.qkv.weight",
        "fuser.encoder.fusion_layers.0.gamma_l",
        "fuser.encoder.text_layers.0.self_attn.in_proj_bias",
        "face_patch_proj.bias",
        "positional_embedding",
    ],
)
def test_a_missing_key_is_named(reference, key):
    state = dict(reference.part("sd."))
    state[key + "_renamed"] = state.pop(key)
    with pytest.raises(ValueError, match=f"missing {re.escape(key)}"):
        build(reference, state)


def test_released_sizes_have_the_parameters_of_the_official_ones():
    def count(module):
        return sum(parameter.numel() for parameter in module.parameters())

    with torch.device("meta"):
        assert count(TextFaceFuser()) == 1_024_053_248
        # the tower has its mask token and class head besides
        assert count(FaceViT()) == 255_684_352 - 85_330_432 - 768
