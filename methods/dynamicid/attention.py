"""Semantic-activated attention (SAA) as attention processors of diffusers' UNet (section 3.1).

Every `attn2` gets `SemanticActivatedAttention`, every `attn1` a `LoRASelfAttention`. Parameter
names are those of the official `SAA_module`, which are those of IP-Adapter-FaceID-Plus.
"""

from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from idbench.methods.dynamicid.control import ContextProjection, SAAControl
from idbench.methods.dynamicid.gate import drop_weak, min_max, raw_activation, with_layout

LORA_RANK = 128
"""Rank of the LoRA of the released weights; the paper does not mention LoRA."""


class LoRA(nn.Module):
    """W_up W_down, without bias or scale; 0 at initialisation."""

    def __init__(self, in_features: int, out_features: int, rank: int) -> None:
        """W_down is drawn from N(0, 1 / rank^2), W_up is 0."""
        super().__init__()
        self.down = nn.Linear(in_features, rank, bias=False)
        self.up = nn.Linear(rank, out_features, bias=False)
        nn.init.normal_(self.down.weight, std=1 / rank)
        nn.init.zeros_(self.up.weight)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """The low-rank update of the last axis."""
        update: Tensor = self.up(self.down(hidden_states))
        return update


class LoRASelfAttention(nn.Module):
    """Self-attention with LoRA on its four projections, for `attn1`.

    `layer_name` is the name of the attention module in the UNet. `merged` says that the LoRA
    have been added to the weights of the attention module and must not be added again.
    """

    def __init__(
        self, hidden_size: int, *, rank: int = LORA_RANK, context_size: int | None = None
    ) -> None:
        """Makes the LoRA of an attention of `hidden_size` channels over `context_size` ones."""
        super().__init__()
        context_size = hidden_size if context_size is None else context_size
        self.to_q_lora = LoRA(hidden_size, hidden_size, rank)
        self.to_k_lora = LoRA(context_size, hidden_size, rank)
        self.to_v_lora = LoRA(context_size, hidden_size, rank)
        self.to_out_lora = LoRA(hidden_size, hidden_size, rank)
        self.layer_name = ""
        self.merged = False

    def project(self, linear: nn.Module, lora: LoRA, hidden_states: Tensor) -> Tensor:
        """W y + W_up W_down y, or W' y where the LoRA is merged into W'."""
        out: Tensor = linear(hidden_states)
        return out if self.merged else out + lora(hidden_states)

    def project_out(self, attn: Attention, hidden_states: Tensor) -> Tensor:
        """The output projection and its dropout (0 in the UNet)."""
        out: Tensor = attn.to_out[1](self.project(attn.to_out[0], self.to_out_lora, hidden_states))
        return out

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        saa: SAAControl | None = None,
    ) -> Tensor:
        """Self-attention over `hidden_states`, (batch, queries, channels); `saa` is not used."""
        _refuse_mask(attention_mask)
        query = self.project(attn.to_q, self.to_q_lora, hidden_states)
        key = self.project(attn.to_k, self.to_k_lora, hidden_states)
        value = self.project(attn.to_v, self.to_v_lora, hidden_states)
        mixed = scaled_dot_product_attention(
            _split(query, attn.heads), _split(key, attn.heads), _split(value, attn.heads)
        )
        return self.project_out(attn, _merge(mixed))


class SemanticActivatedAttention(LoRASelfAttention):
    """Cross-attention to the text plus gated cross-attention to identity tokens, for `attn2`.

    z_new = W_out (softmax(q k_t^T / sqrt d) v_t + w * softmax(q k_f^T / sqrt d) v_f): equation 1
    with the text branch written out. The gate w, one number per query for all heads and channels,
    is equation 2, with equation 3 while the layout term is active.
    """

    def __init__(self, hidden_size: int, cross_attention_dim: int, rank: int = LORA_RANK) -> None:
        """Makes the LoRA and the key and value projections of the identity tokens."""
        super().__init__(hidden_size, rank=rank, context_size=cross_attention_dim)
        self.to_k_ip = nn.Linear(cross_attention_dim, hidden_size, bias=False)
        self.to_v_ip = nn.Linear(cross_attention_dim, hidden_size, bias=False)

    def project_context(
        self, attn: Attention, encoder_hidden_states: Tensor, num_identity_tokens: int
    ) -> ContextProjection:
        """Keys and values of the context, text tokens first and identity tokens last.

        Raises:
            ValueError: If the context has no text tokens besides the identity tokens.
        """
        num_text = encoder_hidden_states.shape[1] - num_identity_tokens
        if num_text < 1:
            raise ValueError(
                f"the context has {encoder_hidden_states.shape[1]} tokens, too few for text and "
                f"{num_identity_tokens} identity tokens; append the identity tokens to the text"
            )
        text = encoder_hidden_states[:, :num_text]
        identity = encoder_hidden_states[:, num_text:]
        identity_key: Tensor = self.to_k_ip(identity)
        head_width = identity_key.shape[-1] // attn.heads
        return ContextProjection(
            text_key=_split(self.project(attn.to_k, self.to_k_lora, text), attn.heads),
            text_value=_split(self.project(attn.to_v, self.to_v_lora, text), attn.heads),
            identity_key=_split(identity_key, attn.heads),
            identity_value=_split(self.to_v_ip(identity), attn.heads),
            key_sum=identity_key.float().sum(dim=1) * head_width**-0.5,
        )

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        saa: SAAControl | None = None,
    ) -> Tensor:
        """Attends to text and, as far as the gate opens, to identity.

        `hidden_states` is (batch, queries, channels), `encoder_hidden_states` (batch, text and
        identity tokens, width).

        Raises:
            ValueError: If `saa` or the context is missing.
        """
        _refuse_mask(attention_mask)
        if saa is None or encoder_hidden_states is None:
            raise ValueError(
                "semantic-activated attention needs cross_attention_kwargs={'saa': SAAControl(...)}"
                " and a context with identity tokens"
            )
        query = self.project(attn.to_q, self.to_q_lora, hidden_states)
        context = saa.projections.get(self.layer_name)
        if context is None:
            context = self.project_context(attn, encoder_hidden_states, saa.num_identity_tokens)
        query_heads = _split(query, attn.heads)
        text = scaled_dot_product_attention(query_heads, context.text_key, context.text_value)
        identity = attend_to_identity(query_heads, context, saa)
        if saa.activate_query:
            gate = activation(query, context, saa, self.layer_name)
            if saa.id_scale != 1.0:
                gate = gate * saa.id_scale
            mixed = torch.addcmul(_merge(text), gate.to(text.dtype).unsqueeze(-1), _merge(identity))
        else:
            mixed = torch.add(_merge(text), _merge(identity), alpha=saa.id_scale)
        return self.project_out(attn, mixed)


def activation(
    query: Tensor, context: ContextProjection, saa: SAAControl, layer_name: str = ""
) -> Tensor:
    """The gate of each query, float32 of shape (batch, queries): equations 2 and 3.

    In [0, 1] without the layout term. It comes from the scores of all people, before any is
    suppressed or mixed.
    """
    gate = drop_weak(min_max(raw_activation(query, context.key_sum)), saa.gate_threshold)
    if saa.recorder is not None:
        saa.recorder.record(layer_name, gate)
    if saa.layout is not None and saa.layout_active:
        inside = saa.layout.union(query.shape[1], query.device)
        gate = with_layout(gate, inside, saa.beta)
    return gate


def attend_to_identity(query: Tensor, context: ContextProjection, saa: SAAControl) -> Tensor:
    """softmax(q k_f^T / sqrt d) v_f, with what other people's boxes suppress, or two faces mixed.

    `query` and the result are (batch, heads, queries, head width).
    """
    key, value, tokens = context.identity_key, context.identity_value, saa.tokens_per_person
    if not saa.activate_query:
        return scaled_dot_product_attention(query, key, value)
    if saa.id_mix is not None and saa.mix_scale is not None:
        share = saa.mix_scale
        if saa.id_mix == "prob":
            first = scaled_dot_product_attention(query, key[:, :, :tokens], value[:, :, :tokens])
            second = scaled_dot_product_attention(query, key[:, :, tokens:], value[:, :, tokens:])
            return torch.lerp(second, first, share)
        scale = key.new_tensor([share] * tokens + [1.0 - share] * tokens)
        return scaled_dot_product_attention(query, key * scale[:, None], value)
    bias = None
    if saa.layout is not None and saa.num_people > 1:
        bias = saa.layout.suppression(query.shape[2], tokens, query.device, query.dtype)
    return scaled_dot_product_attention(query, key, value, attn_mask=bias)


def _split(hidden_states: Tensor, heads: int) -> Tensor:
    return hidden_states.reshape(*hidden_states.shape[:2], heads, -1).transpose(1, 2)


def _merge(hidden_states: Tensor) -> Tensor:
    return hidden_states.transpose(1, 2).flatten(2)


def _refuse_mask(attention_mask: Any) -> None:
    if attention_mask is not None:
        raise ValueError(
            "attention masks are not supported: the official code ignores them, and Stable "
            "Diffusion 1.5 passes none"
        )
