"""ID encoder of PuLID-FLUX ("IDFormer"): face features of a photo to identity tokens."""

from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn

from idbench.methods.common.perceiver import PerceiverAttention, feed_forward

NUM_SCALES = 5  # hidden states of the vision tower; one mapping MLP and depth / 5 layers each


def mapping(in_features: int, width: int, out_features: int) -> nn.Sequential:
    """MLP of three linear layers that maps features of one kind to the encoder's width."""
    return nn.Sequential(
        nn.Linear(in_features, width),
        nn.LayerNorm(width),
        nn.LeakyReLU(),
        nn.Linear(width, width),
        nn.LayerNorm(width),
        nn.LeakyReLU(),
        nn.Linear(width, out_features),
    )


class IDFormer(nn.Module):
    """Resamples the identity condition and five vision hidden states to identity tokens.

    Parameter names and defaults are those of the released `pulid_flux_v0.9.x` files
    (`pulid_encoder.*`, 172 tensors, 151,398,400 parameters).
    """

    def __init__(
        self,
        *,
        dim: int = 1024,
        depth: int = 10,
        dim_head: int = 64,
        heads: int = 16,
        num_id_token: int = 5,
        num_queries: int = 32,
        output_dim: int = 2048,
        ff_mult: int = 4,
        id_dim: int = 1280,
        hidden_dim: int = 1024,
        mapping_dim: int = 1024,
    ) -> None:
        """Builds the encoder; `depth` must be a multiple of 5."""
        super().__init__()
        if depth % NUM_SCALES:
            raise ValueError(f"depth must be a multiple of {NUM_SCALES}, got {depth}")
        self.num_queries = num_queries
        self.num_id_token = num_id_token
        self.dim = dim
        self.id_dim = id_dim
        self.latents = nn.Parameter(torch.randn(1, num_queries, dim) * dim**-0.5)
        self.proj_out = nn.Parameter(torch.randn(dim, output_dim) * dim**-0.5)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    PerceiverAttention(dim, heads=heads, head_width=dim_head),
                    feed_forward(dim, ff_mult),
                ]
            )
            for _ in range(depth)
        )
        for scale in range(NUM_SCALES):
            self.add_module(f"mapping_{scale}", mapping(hidden_dim, mapping_dim, dim))
        self.id_embedding_mapping = mapping(id_dim, mapping_dim, dim * num_id_token)

    def map_hidden(self, scale: int, hidden: Tensor) -> Tensor:
        """Mapped features of one vision scale, 0 (shallow) to 4 (deep): [batch, n, dim]."""
        mapped: Tensor = self.get_submodule(f"mapping_{scale}")(hidden)
        return mapped

    def forward(
        self,
        id_cond: Tensor,
        vit_hidden: list[Tensor],
        scale_gains: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 1.0),
    ) -> Tensor:
        """Identity tokens.

        Args:
            id_cond: [batch, 1280], or [batch, photos, 1280] for several photos of one person.
            vit_hidden: Five hidden states [batch, n, 1024], shallow to deep.
            scale_gains: Factor on the mapped features of each scale; ones are PuLID.

        Returns:
            [batch, num_queries, output_dim].

        Raises:
            ValueError: If there are not five hidden states or five gains.
        """
        if len(vit_hidden) != NUM_SCALES or len(scale_gains) != NUM_SCALES:
            raise ValueError(
                f"vit_hidden and scale_gains must have {NUM_SCALES} entries, "
                f"got {len(vit_hidden)} and {len(scale_gains)}"
            )
        if id_cond.ndim == 2:
            id_cond = id_cond.unsqueeze(1)
        identity = rearrange(
            self.id_embedding_mapping(id_cond), "b n (t d) -> b (n t) d", t=self.num_id_token
        )
        latents = torch.cat((self.latents.expand(len(identity), -1, -1), identity), dim=1)
        layers_per_scale = len(self.layers) // NUM_SCALES
        for scale, (hidden, gain) in enumerate(zip(vit_hidden, scale_gains, strict=True)):
            mapped = self.map_hidden(scale, hidden)
            if gain != 1.0:
                mapped = gain * mapped
            # the initial id tokens join the context of every scale, not the updated ones
            context = torch.cat((identity, mapped), dim=1)
            first = scale * layers_per_scale
            for layer in range(first, first + layers_per_scale):
                attention, mlp = cast(nn.ModuleList, self.layers[layer])
                latents = attention(context, latents) + latents
                latents = mlp(latents) + latents
        return latents[:, : self.num_queries] @ self.proj_out
