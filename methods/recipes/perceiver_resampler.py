"""The perceiver resampler of IP-Adapter's descendants, with its official parameter names."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from idbench.methods.common.perceiver import PerceiverAttention, feed_forward


class PerceiverResampler(nn.Module):
    """Tokens that attend to a context, layer by layer."""

    def __init__(
        self, *, inputs: int, width: int, outputs: int, heads: int, head_width: int, depth: int
    ) -> None:
        """Makes `depth` layers of `width` channels between two projections."""
        super().__init__()
        self.proj_in = nn.Linear(inputs, width)
        self.proj_out = nn.Linear(width, outputs)
        self.norm_out = nn.LayerNorm(outputs)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [PerceiverAttention(width, heads=heads, head_width=head_width), feed_forward(width)]
            )
            for _ in range(depth)
        )

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """(n, tokens, width) and (n, m, inputs) to (n, tokens, outputs)."""
        context = self.proj_in(context)
        for layer in self.layers:
            attention, forward = layer.children()
            tokens = attention(context, tokens) + tokens
            tokens = forward(tokens) + tokens
        out: Tensor = self.norm_out(self.proj_out(tokens))
        return out


class LearnedResampler(PerceiverResampler):
    """The same with tokens that are learned, `latents` (1, tokens, width)."""

    def __init__(
        self,
        *,
        tokens: int,
        inputs: int,
        width: int,
        outputs: int,
        heads: int,
        head_width: int,
        depth: int,
    ) -> None:
        """Makes the layers and `tokens` tokens."""
        super().__init__(
            inputs=inputs,
            width=width,
            outputs=outputs,
            heads=heads,
            head_width=head_width,
            depth=depth,
        )
        self.latents = nn.Parameter(torch.zeros(1, tokens, width))

    def of(self, context: Tensor) -> Tensor:
        """(n, m, inputs) to (n, tokens, outputs)."""
        resampled: Tensor = self(self.latents.expand(len(context), -1, -1), context)
        return resampled


def count_after(names: Iterable[str], prefix: str) -> int:
    """How many different parts follow a prefix, such as the numbers of layers."""
    return len({name[len(prefix) :].split(".")[0] for name in names if name.startswith(prefix)})
