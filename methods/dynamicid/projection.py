"""The face projection: ArcFace vector and CLIP tokens to the identity tokens of one face.

The trainable half of the face encoder; the architecture and the parameter names are those of
IP-Adapter-FaceID-Plus (`ProjPlusModel`).
"""

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from idbench.methods.common.perceiver import PerceiverAttention, feed_forward

HEAD_WIDTH = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceProjectionConfig:
    """Sizes; the defaults are those of the released weights (33,581,568 parameters)."""

    cross_attention_dim: int = 768
    id_embeddings_dim: int = 512
    clip_embeddings_dim: int = 1280
    num_tokens: int = 4
    depth: int = 4


class FaceResampler(nn.Module):
    """Lets the latents attend to the CLIP tokens in `depth` layers."""

    def __init__(self, config: FaceProjectionConfig) -> None:
        """Builds the layers; `cross_attention_dim` must be a multiple of 64."""
        super().__init__()
        dim = config.cross_attention_dim
        self.proj_in = nn.Linear(config.clip_embeddings_dim, dim)
        self.proj_out = nn.Linear(dim, dim)
        self.norm_out = nn.LayerNorm(dim)
        self.layers = nn.ModuleList(
            nn.ModuleList([PerceiverAttention(dim, heads=dim // HEAD_WIDTH), feed_forward(dim)])
            for _ in range(config.depth)
        )

    def forward(self, latents: Tensor, clip_hidden: Tensor) -> Tensor:
        """(batch, t, dim) and (batch, n, clip width) to (batch, t, dim)."""
        context = self.proj_in(clip_hidden)
        for layer in self.layers:
            attention, feed = cast(nn.ModuleList, layer)
            latents = latents + attention(context, latents)
            latents = latents + feed(latents)
        tokens: Tensor = self.norm_out(self.proj_out(latents))
        return tokens


class FaceProjection(nn.Module):
    """(id vector, CLIP hidden states) to identity tokens; 56 tensors."""

    def __init__(self, config: FaceProjectionConfig | None = None) -> None:
        """Builds the module.

        Raises:
            ValueError: If `cross_attention_dim` is not a multiple of 64, the width of a head.
        """
        super().__init__()
        config = config or FaceProjectionConfig()
        if config.cross_attention_dim % HEAD_WIDTH:
            raise ValueError(
                f"cross_attention_dim must be a multiple of {HEAD_WIDTH}, got "
                f"{config.cross_attention_dim}"
            )
        self.config = config
        width = config.id_embeddings_dim
        self.proj = nn.Sequential(
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, config.num_tokens * config.cross_attention_dim),
        )
        self.norm = nn.LayerNorm(config.cross_attention_dim)
        self.perceiver_resampler = FaceResampler(config)

    def forward(
        self, id_embeds: Tensor, clip_hidden: Tensor, shortcut_scale: float | None = None
    ) -> Tensor:
        """Identity tokens of shape (batch, num_tokens, cross_attention_dim).

        `id_embeds` is (batch, 512), `clip_hidden` (batch, 257, 1280). `shortcut_scale` s gives
        L0 + s out, as in FaceID-Plus v2; DynamicID has no shortcut.
        """
        latents: Tensor = self.norm(
            self.proj(id_embeds).reshape(len(id_embeds), self.config.num_tokens, -1)
        )
        tokens: Tensor = self.perceiver_resampler(latents, clip_hidden)
        return tokens if shortcut_scale is None else latents + shortcut_scale * tokens
