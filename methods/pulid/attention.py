"""Identity cross-attention of PuLID-FLUX ("PerceiverAttentionCA")."""

from torch import Tensor, nn

from idbench.methods.common.perceiver import attend


class PerceiverAttentionCA(nn.Module):
    """Update of the image stream from identity tokens.

    Queries come from the image stream, keys and values from the identity tokens alone; text tokens
    take no part. Parameter names are those of `pulid_ca.{i}.*` in the released files.

    Args:
        dim: Width of the image stream.
        dim_head: Width of a head.
        heads: Number of heads.
        kv_dim: Width of the identity tokens; None for `dim`.
    """

    def __init__(
        self,
        *,
        dim: int = 3072,
        dim_head: int = 128,
        heads: int = 16,
        kv_dim: int | None = 2048,
    ) -> None:
        """Builds the layers."""
        super().__init__()
        kv_dim = dim if kv_dim is None else kv_dim
        self.heads = heads
        self.norm1 = nn.LayerNorm(kv_dim)
        self.norm2 = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, heads * dim_head, bias=False)
        self.to_kv = nn.Linear(kv_dim, 2 * heads * dim_head, bias=False)
        self.to_out = nn.Linear(heads * dim_head, dim, bias=False)

    def query(self, hidden_states: Tensor) -> Tensor:
        """Queries [batch, n, heads * dim_head] of the image stream [batch, n, dim]."""
        out: Tensor = self.to_q(self.norm2(hidden_states))
        return out

    def key_value(self, identity_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values, each [batch, tokens, heads * dim_head], of identity tokens."""
        key, value = self.to_kv(self.norm1(identity_tokens)).chunk(2, dim=-1)
        return key, value

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """What is added to the image stream, [batch, n, dim]; batch 1 of key and value spreads."""
        if len(key) != len(query):
            key, value = (x.expand(len(query), -1, -1) for x in (key, value))
        out: Tensor = self.to_out(attend(query, key, value, self.heads))
        return out

    def forward(self, identity_tokens: Tensor, hidden_states: Tensor) -> Tensor:
        """Delta [batch, n, dim] for identity tokens [batch or 1, tokens, kv_dim]."""
        return self.attend(self.query(hidden_states), *self.key_value(identity_tokens))
