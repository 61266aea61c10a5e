"""The released file of FaceCLIP for FLUX, and CLIP for the other visual encoder, read strictly."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from idbench.methods.common.state_dicts import load_strictly
from idbench.methods.flexid.face_vit import FaceViT
from idbench.methods.flexid.fuser import TextFaceFuser
from idbench.methods.flexid.projector import CLIPFaceTokens, FaceT5

# configs/face_t5_xxl.yaml; head counts cannot be read from weights
VIT_HEADS = 8
FUSER_HEADS = 8

_PREFIX = "encoder_2."
_PARTS = ("face_encoder.", "face_patch_proj.", "face_pos_proj.", "positional_embedding", "fuser.")
# No text token depends on these: head of the class token, positions of the face (see FaceLayer),
# and two layers that the official class never calls.
_UNUSED = (
    "face_encoder.feature.",
    "face_encoder.mask_token",
    "face_pos_proj.",
    "fuser.enc_output.",
    "fuser.enc_output_norm.",
)


def face_t5_state(checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that the projector needs, of a `FaceT5FluxWrapper` or of its `encoder_2` alone.

    CLIP and T5 are left out: they are FLUX's own.
    """
    wrapped = any(key.startswith(_PREFIX) for key in checkpoint)
    state = {
        key.removeprefix(_PREFIX): tensor
        for key, tensor in checkpoint.items()
        if key.startswith(_PREFIX) or not wrapped
    }
    needed = {
        key: tensor
        for key, tensor in state.items()
        if key.startswith(_PARTS) and not key.startswith(_UNUSED)
    }
    last = len({key.split(".")[3] for key in needed if key.startswith("fuser.encoder.text_layers")})
    unused_layer = f"fuser.encoder.layers.{last - 1}."
    return {key: tensor for key, tensor in needed.items() if not key.startswith(unused_layer)}


def build_face_t5(
    state: Mapping[str, Tensor],
    source: str | Path,
    *,
    vit_heads: int = VIT_HEADS,
    fuser_heads: int = FUSER_HEADS,
) -> FaceT5:
    """Tower, projection and fuser of the sizes of their weights.

    Args:
        state: From `face_t5_state`.
        source: Begins messages.
        vit_heads: Of the tower.
        fuser_heads: `nhead` of the official configuration; text and fusion have half as many.

    Raises:
        ValueError: If keys are missing, unknown or of the wrong shape; the message names them.
    """

    def shape(key: str) -> torch.Size:
        if key not in state:
            raise ValueError(f"{source}: missing {key}")
        return state[key].shape

    def depth(prefix: str) -> int:
        return len(
            {key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)}
        )

    face_layer = state.get("fuser.encoder.layers.0.linear1.weight")  # a single layer has none
    vit_dim = shape("face_encoder.pos_embed")[2]
    dim = shape("face_patch_proj.weight")[0]
    layers = "fuser.encoder"
    with torch.device("meta"):
        network = FaceT5(
            FaceViT(
                dim=vit_dim,
                depth=depth("face_encoder.blocks."),
                heads=vit_heads,
                mlp_width=shape("face_encoder.blocks.0.mlp.fc1.weight")[0],
            ),
            TextFaceFuser(
                dim=dim,
                depth=depth(f"{layers}.text_layers."),
                heads=fuser_heads,
                fusion_dim=shape(f"{layers}.fusion_layers.0.attn.v_proj.weight")[0],
                text_width=shape(f"{layers}.text_layers.0.linear1.weight")[0],
                face_width=1 if face_layer is None else face_layer.shape[0],
            ),
            vit_dim=vit_dim,
            dim=dim,
            length=shape("positional_embedding")[1],
        )
    network.to_empty(device="cpu")
    load_strictly(network, state, source)
    return network.eval().requires_grad_(False)


def load_face_t5(path: Path) -> FaceT5:
    """Reads `face_t5_encoder.pt`, or the same tensors as safetensors.

    Raises:
        ValueError: If a needed key is missing or of the wrong shape.
    """
    if path.suffix == ".safetensors":
        checkpoint = load_file(path)
    else:
        # memory-mapped: most of the file is a T5 that is not needed
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return build_face_t5(face_t5_state(checkpoint), path)


def load_clip_tokens(
    clip: Path, network: FaceT5, visual_proj: Path | None = None
) -> CLIPFaceTokens:
    """Reads CLIP ViT-L/14 from its folder, and the projection trained for it.

    `visual_proj` is a safetensors file with `weight` [dim, CLIP width] and `bias` [dim].

    Raises:
        ValueError: If the projection has other keys or shapes.
    """
    model = CLIPVisionModelWithProjection.from_pretrained(clip, local_files_only=True)
    projection = None
    if visual_proj is not None:
        projection = nn.Linear(model.config.hidden_size, network.face_patch_proj.out_features)
        load_strictly(projection, load_file(visual_proj), visual_proj)
    tokens = CLIPFaceTokens(model, network.face_patch_proj, projection)
    return tokens.eval().requires_grad_(False)
