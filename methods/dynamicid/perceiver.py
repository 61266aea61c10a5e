"""The attention and feed-forward layers that the face projection and the IMR share."""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class PerceiverAttention(nn.Module):
    """Attention of latents to [context, latents], each with its own norm; no biases.

    Keys and values see the context first and the latents after it. Parameter names are the
    official ones: `norm1` is applied to the context, `norm2` to the latents, the first half of
    `to_kv` is keys.
    """

    def __init__(self, dim: int, *, heads: int, head_width: int = 64) -> None:
        """Makes the layer for `dim` channels with `heads` heads of `head_width` channels."""
        super().__init__()
        inner = heads * head_width
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_kv = nn.Linear(dim, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, dim, bias=False)

    def forward(self, context: Tensor, latents: Tensor) -> Tensor:
        """(batch, m, dim) and (batch, n, dim) to (batch, n, dim), without residual."""
        context, latents = self.norm1(context), self.norm2(latents)
        attended: Tensor = self.to_out(
            _attend(
                self.to_q(latents), self.to_kv(torch.cat([context, latents], dim=1)), self.heads
            )
        )
        return attended


class LatentSelfAttention(nn.Module):
    """Self-attention of latents with one norm; no biases."""

    def __init__(self, dim: int, *, heads: int, head_width: int = 64) -> None:
        """Makes the layer for `dim` channels with `heads` heads of `head_width` channels."""
        super().__init__()
        inner = heads * head_width
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_kv = nn.Linear(dim, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, dim, bias=False)

    def forward(self, latents: Tensor) -> Tensor:
        """(batch, n, dim) to (batch, n, dim), without residual."""
        latents = self.norm1(latents)
        attended: Tensor = self.to_out(_attend(self.to_q(latents), self.to_kv(latents), self.heads))
        return attended


def feed_forward(dim: int, multiplier: int = 4) -> nn.Sequential:
    """Norm, widening without bias, exact GELU, narrowing without bias."""
    return nn.Sequential(
        nn.LayerNorm(dim),
        nn.Linear(dim, dim * multiplier, bias=False),
        nn.GELU(),
        nn.Linear(dim * multiplier, dim, bias=False),
    )


def _attend(query: Tensor, key_value: Tensor, heads: int) -> Tensor:
    # The softmax is in float32 inside the kernels, as in the official code.
    key, value = key_value.chunk(2, dim=-1)
    query, key, value = (
        tensor.reshape(*tensor.shape[:2], heads, -1).transpose(1, 2)
        for tensor in (query, key, value)
    )
    return scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
