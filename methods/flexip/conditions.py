"""Conditions of a generation: text, P and S of both halves of the guidance."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from idbench.methods.flexip.adapter import FlexIPAdapter
from idbench.methods.flexip.attention import GatedContext
from idbench.methods.flexip.config import MultiReference
from idbench.methods.flexip.gate import Gates
from idbench.methods.flexip.references import Features


@dataclass(frozen=True, slots=True)
class Condition:
    """What one half of the guidance is told.

    `text` is (batch, t, width), `preservation` P (batch, p, width), `personalization` S
    (batch, t, width).
    """

    text: Tensor
    preservation: Tensor
    personalization: Tensor

    def context(self, gates: Gates, layers: Sequence[str]) -> GatedContext:
        """The same as the UNet takes it."""
        return GatedContext(
            self.text, self.preservation, self.personalization, gates.of_layers(layers), {}
        )

    def to(self, device: torch.device, dtype: torch.dtype) -> "Condition":
        """The tensors elsewhere or in another dtype."""
        return Condition(*(tensor.to(device, dtype) for tensor in self._tensors()))

    def _tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.text, self.preservation, self.personalization

    @staticmethod
    def cat(parts: "Sequence[Condition]") -> "Condition":
        """Several batches as one; they must have the same numbers of tokens."""
        columns = zip(*(part._tensors() for part in parts), strict=True)
        return Condition(*(torch.cat(column) for column in columns))


@torch.no_grad()
def condition(
    adapter: FlexIPAdapter,
    text: Tensor,
    features: Features,
    multi_reference: MultiReference = "joint",
) -> Condition:
    """Text, P and S of a batch.

    `text` is (batch, t, dim). With "mean" every reference gives tokens by itself, which are
    averaged; with one reference the two ways are the same.
    """
    count = features.class_tokens.shape[1]
    if multi_reference == "joint" or count == 1:
        found = adapter(text, features.class_tokens, features.patches)
        return Condition(text, *found)
    pairs = zip(
        features.class_tokens.chunk(count, dim=1),
        features.patches.chunk(count, dim=1),
        strict=True,
    )
    each = [adapter(text, token, patches) for token, patches in pairs]
    preservation, personalization = (
        torch.stack(tokens).mean(dim=0) for tokens in zip(*each, strict=True)
    )
    return Condition(text, preservation, personalization)
