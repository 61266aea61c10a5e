"""Soft integration of EditID: pooled queries of the noise image join the identity tokens.

A reconstruction from what the paper on EditIDv2 says of its predecessor: the query of the noise
image is re-weighted to the dimension of the identity feature, added to it by a residual connection,
and concatenated with it. No code was published for it.
"""

import torch
from torch import Tensor

from idbench.methods.pulid.attention import PerceiverAttentionCA


class PooledQueries:
    """The integration: identity tokens c become concat(c, c + gamma r).

    r = softmax(c Q^T / sqrt(width)) Q pools the N queries Q to the shape of c without parameters,
    which needs queries as wide as the tokens (2048 in the released weights). At gamma = 0 the
    tokens are doubled, which leaves the attention as it is.

    Args:
        gamma: Strength of the residual.
    """

    def __init__(self, gamma: float) -> None:
        """Keeps the strength."""
        self.gamma = gamma

    def __call__(
        self,
        module: PerceiverAttentionCA,
        index: int,
        hidden_states: Tensor,
        tokens: Tensor,
        key_value: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Update of the image stream [batch, n, dim].

        Raises:
            ValueError: If queries and identity tokens differ in width.
        """
        query = module.query(hidden_states)
        width = query.shape[-1]
        if tokens.shape[-1] != width:
            raise ValueError(
                f"EditID needs identity tokens as wide as the queries ({width}), "
                f"got {tokens.shape[-1]}"
            )
        scores = tokens @ query.transpose(1, 2) * width**-0.5
        pooled = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype) @ query
        tokens = tokens.expand(len(query), -1, -1)
        joined = torch.cat((tokens, tokens + self.gamma * pooled), dim=1)
        return module.attend(query, *module.key_value(joined))
