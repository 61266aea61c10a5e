"""Semantic identity projector (SIP): a face as a residual on the T5 tokens."""

from dataclasses import dataclass
from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import normalize, resize
from transformers import CLIPVisionModelWithProjection

from idbench.methods.flexid.face_vit import FaceViT
from idbench.methods.flexid.fuser import TextFaceFuser
from idbench.methods.flexid.residual import Delta, Norm, difference, scaled

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
FACE_GRID = 12  # tokens per side that the released fuser was trained with


class FaceTokens(Protocol):
    """Turns RGB faces [batch, 3, h, w] in [0, 1] into face tokens [batch, n, dim] of the fuser."""

    def __call__(self, images: Tensor) -> Tensor:
        """The tokens."""
        ...


class FaceT5(nn.Module):
    """FaceCLIP's tower, projections and fuser, as in `face_t5_encoder.pt` without its T5."""

    def __init__(
        self, face_encoder: FaceViT, fuser: TextFaceFuser, *, vit_dim: int, dim: int, length: int
    ) -> None:
        """Builds the projections around tower and fuser; `length` is the longest text."""
        super().__init__()
        self.face_encoder = face_encoder
        self.face_patch_proj = nn.Linear(vit_dim, dim)
        self.fuser = fuser
        self.register_buffer("positional_embedding", torch.zeros(1, length, dim))
        self.positional_embedding: Tensor

    def face_tokens(self, images: Tensor) -> Tensor:
        """Face tokens [batch, 144, dim] of RGB faces [batch, 3, h, w] in [0, 1]."""
        out: Tensor = self.face_patch_proj(self.face_encoder(images))
        return out

    def fuse(self, text: Tensor, face: Tensor) -> Tensor:
        """Fused text [batch, tokens, dim]; shorter texts use the first positions.

        Raises:
            ValueError: If the text is longer than the position table or of another width.
        """
        _, length, dim = self.positional_embedding.shape
        if text.shape[1] > length or text.shape[2] != dim:
            raise ValueError(
                f"the fuser takes up to {length} tokens of width {dim}, got {text.shape[1]} of "
                f"width {text.shape[2]}; set max_sequence_length to {length} or less"
            )
        positions = self.positional_embedding[:, : text.shape[1]]
        out: Tensor = self.fuser(text, positions, face)
        return out


def on_face_grid(tokens: Tensor, grid: int) -> Tensor:
    """Tokens [batch, grid * grid, dim] resampled bilinearly to 144, FaceCLIP's grid."""
    maps = rearrange(tokens, "b (h w) d -> b d h w", h=grid)
    size = (FACE_GRID, FACE_GRID)
    coarse = interpolate(maps, size=size, mode="bilinear", align_corners=False)
    out: Tensor = rearrange(coarse, "b d h w -> b (h w) d")
    return out


class CLIPFaceTokens(nn.Module):
    """Face tokens from the patches of CLIP ViT-L/14, the encoder that the paper names.

    With `visual_proj`, a trained linear map from CLIP's width to the fuser's, each patch is a
    token. Without it, CLIP's own projection and FaceCLIP's follow each other on a 12x12 grid:
    shapes fit, but nobody trained them together.

    Args:
        model: CLIP with its projection.
        face_patch_proj: FaceCLIP's.
        visual_proj: Replaces both.
    """

    def __init__(
        self,
        model: CLIPVisionModelWithProjection,
        face_patch_proj: nn.Linear,
        visual_proj: nn.Linear | None = None,
    ) -> None:
        """Keeps the layers."""
        super().__init__()
        self.model = model
        self.face_patch_proj = face_patch_proj
        self.visual_proj = visual_proj

    def forward(self, images: Tensor) -> Tensor:
        """Face tokens [batch, 256 or 144, dim] of RGB faces [batch, 3, h, w] in [0, 1]."""
        side = self.model.config.image_size
        resized = resize(images, [side, side], InterpolationMode.BICUBIC, antialias=True)
        pixels = normalize(resized.clamp(0, 1), list(CLIP_MEAN), list(CLIP_STD))
        vision = self.model.vision_model
        patches = vision.post_layernorm(vision(pixels).last_hidden_state[:, 1:])
        if self.visual_proj is not None:
            trained: Tensor = self.visual_proj(patches)
            return trained
        grid = side // self.model.config.patch_size
        out: Tensor = self.face_patch_proj(
            on_face_grid(self.model.visual_projection(patches), grid)
        )
        return out


@dataclass(frozen=True, kw_only=True, slots=True)
class SemanticIdentityProjector:
    """The residual phi_proj(f, E) of equation (1).

    `face_tokens` is the visual encoder, `kind` and `norm` are those of `difference` and `scaled`.
    """

    network: FaceT5
    face_tokens: FaceTokens
    kind: Delta = "contrast"
    norm: Norm = "sample"

    def to(self, device: str | torch.device) -> None:
        """Moves the networks."""
        self.network.to(device)
        if isinstance(self.face_tokens, nn.Module):
            self.face_tokens.to(device)

    @torch.no_grad()
    def __call__(self, text: Tensor, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """The residual [batch, tokens, dim] in float32.

        Args:
            text: T5 tokens E, [batch, tokens, dim].
            images: Aligned RGB faces [batch, 3, h, w] in [0, 1].
            mask: See `scaled`.
        """
        weight = self.network.positional_embedding
        e, images = text.to(weight), images.to(weight)
        fused = self.network.fuse(e, self.face_tokens(images))
        null = None
        if self.kind == "contrast":
            # the same shapes as above: without a face the difference is zero to the last bit
            null = self.network.fuse(e, self.face_tokens(torch.zeros_like(images)))
        return scaled(difference(self.kind, fused, null, text), text, self.norm, mask)
