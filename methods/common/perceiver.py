"""The layers of the perceiver resampler, shared by all descendants of IP-Adapter-Plus."""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Multi-head attention with scale 1 / sqrt(head width).

    The official code scales query and key by head width^(-1/4) each and takes the softmax in
    float32; the fused kernels do the same up to rounding.

    Args:
        query: (batch, n, heads * head width).
        key: (batch, m, heads * head width).
        value: As `key`.
        heads: Number of heads.

    Returns:
        (batch, n, heads * head width).
    """
    query, key, value = (rearrange(x, "b n (h d) -> b h n d", h=heads) for x in (query, key, value))
    return rearrange(scaled_dot_product_attention(query, key, value), "b h n d -> b n (h d)")


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
        key, value = self.to_kv(torch.cat([context, latents], dim=1)).chunk(2, dim=-1)
        attended: Tensor = self.to_out(attend(self.to_q(latents), key, value, self.heads))
        return attended


def feed_forward(dim: int, multiplier: int = 4) -> nn.Sequential:
    """Norm, widening without bias, exact GELU, narrowing without bias."""
    return nn.Sequential(
        nn.LayerNorm(dim),
        nn.Linear(dim, dim * multiplier, bias=False),
        nn.GELU(),
        nn.Linear(dim * multiplier, dim, bias=False),
    )
