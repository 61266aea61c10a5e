"""Gated decoupled cross-attention: text, preservation and personalization in one layer.

Section 3.4 and equation 4, realised on attention outputs:
out = W_o (A_T + s (gamma A_P + (1 - gamma) A_S)) + b_o.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from idbench.methods.flexip.gate import Gamma, Gate

TextBranch = Literal["keep", "replace"]


class GatedKeyValues(nn.Module):
    """Keys and values of the two branches of one layer, without biases; all that is trained there.

    `p` is preservation, `s` is personalization.
    """

    def __init__(self, cross_attention_dim: int, hidden_size: int) -> None:
        """Makes four matrices from `cross_attention_dim` to `hidden_size` channels."""
        super().__init__()
        self.to_k_p = nn.Linear(cross_attention_dim, hidden_size, bias=False)
        self.to_v_p = nn.Linear(cross_attention_dim, hidden_size, bias=False)
        self.to_k_s = nn.Linear(cross_attention_dim, hidden_size, bias=False)
        self.to_v_s = nn.Linear(cross_attention_dim, hidden_size, bias=False)

    @torch.no_grad()
    def copy_text_projections(self, attn: Attention) -> None:
        """Starts both branches from the layer's frozen text keys and values."""
        for key, value in ((self.to_k_p, self.to_v_p), (self.to_k_s, self.to_v_s)):
            key.weight.copy_(attn.to_k.weight)
            value.weight.copy_(attn.to_v.weight)


@dataclass(frozen=True, slots=True)
class KeyValue:
    """Keys and values of one branch, (batch, heads, tokens, head width)."""

    key: Tensor
    value: Tensor

    def attend(self, query: Tensor) -> Tensor:
        """softmax(q k^T / sqrt d) v; query and result are (batch, heads, queries, head width)."""
        return scaled_dot_product_attention(query, self.key, self.value)


@dataclass(frozen=True, slots=True)
class LayerProjection:
    """Keys and values of one layer. None stands for a branch that has no weight there."""

    text: KeyValue | None
    preservation: KeyValue | None
    personalization: KeyValue | None


class GatedContext(NamedTuple):
    """What the UNet gets as `encoder_hidden_states`.

    `text` is (batch, t, width), `preservation` P (batch, p, width), `personalization` S
    (batch, t, width); `gates` by path of the layer. `projections` has keys and values that were
    made before, by path of the layer; they stay the same over the denoising steps.
    """

    text: Tensor
    preservation: Tensor
    personalization: Tensor
    gates: Mapping[str, Gate]
    projections: Mapping[str, LayerProjection]


class GatedCrossAttention:
    """Attention processor of one `attn2`.

    No module: the trained matrices belong to the adapter, and the UNet stays as it was, to the
    names in its state dict. With a plain tensor as context it is the attention of the base model.
    """

    def __init__(
        self, layer_name: str, key_values: GatedKeyValues, text_branch: TextBranch = "keep"
    ) -> None:
        """Keeps the matrices; `layer_name` is the path of the attention in the UNet."""
        self.layer_name = layer_name
        self.key_values = key_values
        self.text_branch = text_branch

    def project(self, attn: Attention, context: GatedContext) -> LayerProjection:
        """Keys and values of the branches that have a weight."""
        weights = self.key_values
        preservation, personalization = context.gates[self.layer_name].weights
        kept = self.text_branch == "keep"
        return LayerProjection(
            _key_value(attn, attn.to_k, attn.to_v, context.text) if kept else None,
            None
            if _is_zero(preservation)
            else _key_value(attn, weights.to_k_p, weights.to_v_p, context.preservation),
            None
            if _is_zero(personalization)
            else _key_value(attn, weights.to_k_s, weights.to_v_s, context.personalization),
        )

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: GatedContext | Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """(batch, queries, channels) to the same; `temb` is not used.

        A branch whose weight is the number 0 is not computed, so that gamma = 1 does not depend on
        S, gamma = 0 does not depend on P, and scale 0 is the base model, all to the last bit.

        Raises:
            ValueError: If there is no context, or a mask.
        """
        if attention_mask is not None or encoder_hidden_states is None:
            raise ValueError(
                f"{self.layer_name} is a cross-attention without masks, as Stable Diffusion 1.5 "
                "has them; pass encoder_hidden_states and no mask"
            )
        context = encoder_hidden_states
        query = _split(attn.to_q(hidden_states), attn.heads)
        if isinstance(context, GatedContext):
            mixed = self._mix(attn, query, context)
        else:
            mixed = _key_value(attn, attn.to_k, attn.to_v, context).attend(query)
        mixed = mixed.transpose(1, 2).flatten(2).to(query.dtype)
        out: Tensor = attn.to_out[1](attn.to_out[0](mixed))
        return out

    def _mix(self, attn: Attention, query: Tensor, context: GatedContext) -> Tensor:
        made = context.projections.get(self.layer_name) or self.project(attn, context)
        weights = context.gates[self.layer_name].weights
        mixed = torch.zeros_like(query) if made.text is None else made.text.attend(query)
        for branch, weight in zip((made.preservation, made.personalization), weights, strict=True):
            if branch is not None:
                mixed = _add(mixed, branch.attend(query), weight)
        return mixed


def _add(mixed: Tensor, branch: Tensor, weight: Gamma) -> Tensor:
    if isinstance(weight, Tensor):
        return torch.addcmul(mixed, branch, weight.to(branch.dtype).reshape(-1, 1, 1, 1))
    return torch.add(mixed, branch, alpha=weight)


def _is_zero(weight: Gamma) -> bool:
    return not isinstance(weight, Tensor) and weight == 0


def _key_value(attn: Attention, to_k: nn.Module, to_v: nn.Module, tokens: Tensor) -> KeyValue:
    return KeyValue(_split(to_k(tokens), attn.heads), _split(to_v(tokens), attn.heads))


def _split(hidden_states: Tensor, heads: int) -> Tensor:
    return hidden_states.reshape(*hidden_states.shape[:2], heads, -1).transpose(1, 2)
