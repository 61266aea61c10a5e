"""A weights folder for FlexID: a tiny FLUX, PuLID and FaceCLIP in the released formats."""

import warnings

import pytest
import torch

VIT_WIDTH = 16
LENGTH = 512  # of the position table, as in the released file


def write_face_t5(path, dim):
    """`face_t5_encoder.pt`: tower, fuser, leftovers, and the CLIP and T5 that are not read."""
    from idbench.methods.flexid.face_vit import FaceViT
    from idbench.methods.flexid.fuser import TextFaceFuser
    from idbench.methods.flexid.projector import FaceT5

    torch.manual_seed(61)
    network = FaceT5(
        FaceViT(dim=VIT_WIDTH, depth=2, heads=8, mlp_width=32),
        TextFaceFuser(dim=dim, depth=3, heads=8, fusion_dim=16, text_width=32, face_width=48),
        vit_dim=VIT_WIDTH,
        dim=dim,
        length=LENGTH,
    )
    state = network.state_dict()
    for key, tensor in state.items():
        # layer scales start at 1e-4; without larger ones no face would show
        if tensor.dim() == 1 and ("gamma" in key or "bias" in key):
            tensor.uniform_(0.2, 0.5)
    angles = torch.arange(LENGTH)[:, None] / 10000 ** (torch.arange(0, dim, 2) / dim)
    state["positional_embedding"] = torch.stack((angles.sin(), angles.cos()), -1).flatten(1)[None]
    state["face_encoder.pos_embed"].normal_(std=0.1)
    last = "fuser.encoder.layers."
    extra = {
        key.replace(f"{last}1.", f"{last}2."): value
        for key, value in state.items()
        if key.startswith(f"{last}1.")
    }
    extra |= {
        "face_encoder.mask_token": torch.zeros(1, 1, VIT_WIDTH),
        "face_encoder.feature.0.weight": torch.zeros(4, 4),
        "face_pos_proj.weight": torch.zeros(dim, VIT_WIDTH),
        "face_pos_proj.bias": torch.zeros(dim),
        "fuser.enc_output.weight": torch.zeros(dim, dim),
        "fuser.enc_output_norm.bias": torch.zeros(dim),
        "t5_encoder.encoder.block.0.layer.0.weight": torch.zeros(4, 4),
    }
    whole = {f"encoder_2.{key}": tensor for key, tensor in {**state, **extra}.items()}
    whole["encoder_1.text_model.final_layer_norm.weight"] = torch.ones(4)
    path.parent.mkdir(parents=True)
    torch.save(whole, path)


def write_clip(folder):
    """A small CLIP image tower in the layout of the hub."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(62)
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        projection_dim=VIT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=224,
        patch_size=14,
    )
    CLIPVisionModelWithProjection(config).save_pretrained(folder)


@pytest.fixture(scope="session")
def flexid_weights(tiny_flux_weights, tiny_flux_files, tmp_path_factory):
    """The weights folder of PuLID, with FaceCLIP and CLIP beside it."""
    folder = tmp_path_factory.mktemp("flexid")
    for path in tiny_flux_weights.iterdir():
        (folder / path.name).symlink_to(path)
    write_face_t5(folder / "faceclip" / "face_t5_encoder.pt", tiny_flux_files.TEXT_WIDTH)
    with warnings.catch_warnings():
        write_clip(folder / "clip-vit-large-patch14")
    return folder
