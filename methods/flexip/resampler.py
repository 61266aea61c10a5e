"""The perceiver resampler of IP-Adapter-Plus, with learned or external queries (equation 1).

The architecture and the parameter names are those of `ip_adapter/resampler.py` of
tencent-ailab/IP-Adapter.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import cast

import torch
from torch import Tensor, nn

from idbench.methods.common.perceiver import PerceiverAttention, feed_forward


@dataclass(frozen=True, kw_only=True, slots=True)
class ResamplerConfig:
    """Sizes of the layers; the defaults are those of IP-Adapter-Plus for Stable Diffusion 1.5."""

    depth: int = 4
    heads: int = 12
    dim_head: int = 64
    ff_mult: int = 4

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            ValueError: Naming the setting, its value and what is allowed.
        """
        for name in ("depth", "heads", "dim_head", "ff_mult"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"resampler {name} must be at least 1, got {value}")


def resampler_config(values: Mapping[str, int]) -> ResamplerConfig:
    """Sizes of the layers from some that differ from the defaults.

    Raises:
        ValueError: If a name is unknown or a value out of range.
    """
    known = [entry.name for entry in fields(ResamplerConfig)]
    if unknown := sorted(values.keys() - set(known)):
        raise ValueError(f"a resampler has no {', '.join(unknown)}; it has {', '.join(known)}")
    return ResamplerConfig(**values)


class Resampler(nn.Module):
    """Lets queries collect from retrieval tokens: Z^(R,X) = Resampler(Z^(X), Z^(D)).

    In each layer the queries attend to [retrieval tokens, queries]; the retrieval tokens are
    projected once and stay as they are.
    """

    def __init__(
        self,
        *,
        dim: int,
        embedding_dim: int,
        output_dim: int,
        config: ResamplerConfig | None = None,
        num_queries: int | None = None,
        max_seq_len: int | None = None,
        num_latents_mean_pooled: int = 0,
    ) -> None:
        """Builds the layers.

        Args:
            dim: Width of queries inside.
            embedding_dim: Width of retrieval tokens.
            output_dim: Width of the result.
            config: Sizes of the layers.
            num_queries: Learned queries, `latents`; None where queries are always given.
            max_seq_len: Number of retrieval tokens that have a learned position; None for no
                positional embedding.
            num_latents_mean_pooled: Queries made of the mean retrieval token, which come first.
        """
        super().__init__()
        config = config or ResamplerConfig()
        self.num_latents_mean_pooled = num_latents_mean_pooled
        self.pos_emb = None if max_seq_len is None else nn.Embedding(max_seq_len, embedding_dim)
        self.latents = (
            None
            if num_queries is None
            else nn.Parameter(torch.randn(1, num_queries, dim) / dim**0.5)
        )
        self.proj_in = nn.Linear(embedding_dim, dim)
        self.proj_out = nn.Linear(dim, output_dim)
        self.norm_out = nn.LayerNorm(output_dim)
        self.to_latents_from_mean_pooled_seq = (
            nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim * num_latents_mean_pooled))
            if num_latents_mean_pooled
            else None
        )
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    PerceiverAttention(dim, heads=config.heads, head_width=config.dim_head),
                    feed_forward(dim, config.ff_mult),
                ]
            )
            for _ in range(config.depth)
        )

    def forward(self, retrieval: Tensor, queries: Tensor | None = None) -> Tensor:
        """Tokens that the queries collected, (batch, queries, output_dim).

        Args:
            retrieval: (batch, n, embedding_dim), in any order unless positions are embedded.
            queries: (batch, m, dim), in place of the learned ones.

        Raises:
            ValueError: If there are neither given nor learned queries, or more retrieval tokens
                than positions.
        """
        if queries is None:
            if self.latents is None:
                raise ValueError("this resampler has no learned queries; give it some")
            queries = self.latents.expand(len(retrieval), -1, -1)
        context = self.proj_in(self._with_positions(retrieval))
        if self.to_latents_from_mean_pooled_seq is not None:
            pooled = self.to_latents_from_mean_pooled_seq(context.mean(dim=1))
            pooled = pooled.unflatten(1, (self.num_latents_mean_pooled, -1))
            queries = torch.cat([pooled, queries], dim=1)
        for layer in self.layers:
            attention, feed = cast(nn.ModuleList, layer)
            queries = queries + attention(context, queries)
            queries = queries + feed(queries)
        tokens: Tensor = self.norm_out(self.proj_out(queries))
        return tokens

    def _with_positions(self, retrieval: Tensor) -> Tensor:
        if self.pos_emb is None:
            return retrieval
        count = retrieval.shape[1]
        if count > self.pos_emb.num_embeddings:
            raise ValueError(
                f"{count} retrieval tokens, but positions for {self.pos_emb.num_embeddings}; use "
                "max_seq_len=None for inputs of any length"
            )
        return retrieval + self.pos_emb.weight[:count]
