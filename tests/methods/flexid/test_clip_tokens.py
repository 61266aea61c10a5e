import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import linear

from idbench.methods.flexid.projector import on_face_grid
from idbench.methods.flexid.weights import load_clip_tokens, load_face_t5


@pytest.fixture(scope="module")
def network(flexid_weights):
    return load_face_t5(flexid_weights / "faceclip" / "face_t5_encoder.pt")


@pytest.fixture(scope="module")
def tokens(flexid_weights, network):
    return load_clip_tokens(flexid_weights / "clip-vit-large-patch14", network)


@pytest.fixture(scope="module")
def faces():
    return torch.rand(2, 3, 512, 512, generator=torch.Generator().manual_seed(7))


@pytest.fixture(scope="module")
def hidden(flexid_weights, faces):
    """CLIP's hidden states of the faces, through the library's own preparation."""
    from PIL import Image
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    processor = CLIPImageProcessor()
    arrays = (faces * 255).round().byte().permute(0, 2, 3, 1).numpy()
    images = [Image.fromarray(array) for array in arrays]
    pixels = processor(images=images, return_tensors="pt")["pixel_values"]
    model = CLIPVisionModelWithProjection.from_pretrained(
        flexid_weights / "clip-vit-large-patch14", local_files_only=True
    ).eval()
    with torch.no_grad():
        out = model(pixels)
        return model, out.last_hidden_state, out.image_embeds


def test_a_given_projection_maps_every_patch(flexid_weights, network, faces, hidden, tmp_path):
    model, states, _ = hidden
    weight = torch.randn(24, 32, generator=torch.Generator().manual_seed(8))
    bias = torch.arange(24.0)
    save_file({"weight": weight, "bias": bias}, tmp_path / "p.safetensors")
    folder = flexid_weights / "clip-vit-large-patch14"
    found = load_clip_tokens(folder, network, tmp_path / "p.safetensors")(faces)
    assert found.shape == (2, 256, 24)
    patches = model.vision_model.post_layernorm(states[:, 1:])
    expected = linear(patches, weight, bias)
    # the library resizes in eight bits, here in float
    assert (found - expected).abs().mean() < 0.02 * expected.std()


def test_without_one_it_is_clips_projection_on_the_grid_of_the_fuser(
    tokens, network, faces, hidden
):
    model, states, embeds = hidden
    vision = model.vision_model
    # the same layers on the class token are the library's image embedding
    torch.testing.assert_close(model.visual_projection(vision.post_layernorm(states[:, 0])), embeds)
    found = tokens(faces)
    assert found.shape == (2, 144, 24)
    patches = model.visual_projection(vision.post_layernorm(states[:, 1:]))
    expected = network.face_patch_proj(on_face_grid(patches, 16))
    assert (found - expected).abs().mean() < 0.02 * expected.std()


def test_the_grid_is_resampled_at_the_centres_of_its_cells():
    ramp = torch.arange(16.0).expand(16, 16)  # grows along the row
    tokens = torch.stack((ramp.flatten(), ramp.T.flatten()), dim=-1)[None]
    found = on_face_grid(tokens, 16)
    assert found.shape == (1, 144, 2)
    # 16 cells over 12: cell i has its centre at (i + 1/2) * 16/12 - 1/2
    centres = (torch.arange(12.0) + 0.5) * 16 / 12 - 0.5
    torch.testing.assert_close(found[0, :, 0].reshape(12, 12)[5], centres)
    torch.testing.assert_close(found[0, :, 1].reshape(12, 12)[:, 5], centres)


def test_a_projection_of_other_widths_is_refused(flexid_weights, network, tmp_path):
    save_file({"weight": torch.zeros(24, 30)}, tmp_path / "p.safetensors")
    with pytest.raises(ValueError, match=r"missing bias; wrong shape: weight \(24, 30\) instead"):
        load_clip_tokens(
            flexid_weights / "clip-vit-large-patch14", network, tmp_path / "p.safetensors"
        )
