"""The self-attention layer of the identity-motion reconfigurator (IMR)."""

from torch import Tensor, nn

from idbench.methods.common.perceiver import attend


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
        key, value = self.to_kv(latents).chunk(2, dim=-1)
        attended: Tensor = self.to_out(attend(self.to_q(latents), key, value, self.heads))
        return attended
