"""The identity-motion reconfigurator (IMR): equations 5 and 6 (section 3.2).

DisentangleNet takes the motion of the source face out of its identity tokens, EntangleNet puts
the motion of a target in. Parameter names are the official ones.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from idbench.methods.common.perceiver import PerceiverAttention, feed_forward
from idbench.methods.dynamicid.perceiver import LatentSelfAttention


@dataclass(frozen=True, kw_only=True, slots=True)
class ReconfiguratorConfig:
    """Sizes; the defaults are those of the official pipeline (40,926,464 parameters).

    `num_motion_tokens` is c of equation 5; `depth` is 1 as the paper says (the class of the
    official code defaults to 4).
    """

    embedding_dim: int = 768
    text_dim: int = 768
    dim: int = 1024
    heads: int = 16
    head_width: int = 64
    num_motion_tokens: int = 4
    feed_forward_multiplier: int = 4
    disentangle_depth: int = 1
    entangle_depth: int = 1


class IdentityMotionReconfigurator(nn.Module):
    """Identity tokens of a source face to those of the same face with other motions."""

    def __init__(self, config: ReconfiguratorConfig | None = None) -> None:
        """Builds the module."""
        super().__init__()
        config = config or ReconfiguratorConfig()
        self.config = config
        dim, motion_dim = config.dim, config.embedding_dim + config.text_dim
        self.feature_fusion = nn.Sequential(
            nn.LayerNorm(motion_dim),
            nn.Linear(motion_dim, dim),
            nn.GELU(),
            nn.LayerNorm(dim),
            nn.Linear(dim, config.num_motion_tokens * dim),
            nn.GELU(),
        )
        self.norm_in = nn.LayerNorm(config.embedding_dim)
        self.proj_in = nn.Linear(config.embedding_dim, dim)
        self.norm_out = nn.LayerNorm(dim)
        self.proj_out = nn.Linear(dim, config.embedding_dim)
        self.disentangleNet = _motion_net(config, config.disentangle_depth)
        self.entangleNet = _motion_net(config, config.entangle_depth)

    def motion_tokens(self, landmark: Tensor, text: Tensor) -> Tensor:
        """Motion tokens (psi of equation 5), (batch, c, dim), from landmark and text features."""
        fused: Tensor = self.feature_fusion(torch.cat([landmark, text], dim=-1))
        return fused.reshape(len(fused), self.config.num_motion_tokens, -1)

    def disentangle(self, source_tokens: Tensor, source_motion: Tensor) -> Tensor:
        """Identity without motion (zeta), (batch, tokens, dim), from (batch, tokens, width)."""
        return _run(self.disentangleNet, self.proj_in(self.norm_in(source_tokens)), source_motion)

    def entangle(self, identity: Tensor, target_motion: Tensor) -> Tensor:
        """Identity (xi_pred) with the target's motion, (batch, tokens, width)."""
        moved = _run(self.entangleNet, identity, target_motion)
        tokens: Tensor = self.proj_out(self.norm_out(moved))
        return tokens

    def forward(
        self,
        source_tokens: Tensor,
        source_landmark: Tensor,
        target_landmark: Tensor,
        source_text: Tensor,
        target_text: Tensor,
    ) -> Tensor:
        """Tokens of S sources moved to m targets each: (S m, tokens, width), sources slow.

        Source inputs have S rows, target inputs S m rows. `*_landmark` are features of the key
        point encoder, `*_text` pooled text features.

        Raises:
            ValueError: If the number of targets is not a multiple of the number of sources.
        """
        sources, targets = source_tokens.shape[0], target_text.shape[0]
        if targets % sources:
            raise ValueError(f"{targets} targets cannot be shared out to {sources} sources")
        motion = self.motion_tokens(
            torch.cat([source_landmark, target_landmark]), torch.cat([source_text, target_text])
        )
        identity = self.disentangle(source_tokens, motion[:sources])
        identity = identity.repeat_interleave(targets // sources, dim=0)
        return self.entangle(identity, motion[sources:])


def _motion_net(config: ReconfiguratorConfig, depth: int) -> nn.ModuleList:
    size = {"heads": config.heads, "head_width": config.head_width}
    return nn.ModuleList(
        nn.ModuleList(
            [
                PerceiverAttention(config.dim, **size),
                LatentSelfAttention(config.dim, **size),
                feed_forward(config.dim, config.feed_forward_multiplier),
            ]
        )
        for _ in range(depth)
    )


def _run(net: nn.ModuleList, latents: Tensor, motion: Tensor) -> Tensor:
    for layer in net:
        cross, mix, feed = cast(nn.ModuleList, layer)
        latents = latents + cross(motion, latents)
        latents = latents + mix(latents)
        latents = latents + feed(latents)
    return latents
