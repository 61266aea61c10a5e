"""Attention processors that exchange features, rows or maps inside one batched forward.

The rows that the target takes from are in the same batch, so nothing is stored between steps and
no attention matrix is built: every variant is a fused attention with other values. Rows of the
original and the intermediate image go through exactly the operations of ungated attention.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import torch
from diffusers.models.attention_processor import Attention
from einops import rearrange
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from idbench.methods.editedid.gate import INTERMEDIATE, ORIGINAL, ROLES, TARGET, AttentionalGate


class AttentionNetwork(Protocol):
    """A network whose attention processors can be read and set, as diffusers' UNets."""

    @property
    def attn_processors(self) -> Mapping[str, object]:
        """Processors by layer."""
        ...

    def set_attn_processor(self, processor: Mapping[str, object]) -> None:
        """Installs processors by layer."""
        ...


class EditedIDSelfProcessor:
    """Mask-selective self-attention, equation 7.

    Args:
        gate: State of the run.
        gated: Whether this layer is one of those the gate acts in.
    """

    def __init__(self, gate: AttentionalGate, *, gated: bool) -> None:
        """Binds the processor to a gate."""
        self.gate = gate
        self.gated = gated

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Attention of `hidden_states` (rows, positions, dim) to themselves."""
        query, key, value = _project(attn, hidden_states, hidden_states)
        attended = scaled_dot_product_attention(query, key, value)
        if not self.gated:
            return _output(attn, attended)
        variant = self.gate.config.self_gate
        if variant == "feature":
            output = _output(attn, attended)
            self._mix(output)
            return output
        query, key, value, rows = (_by_role(x, self.gate) for x in (query, key, value, attended))
        exchange = exchange_rows if variant == "map_query" else exchange_columns
        weights = self.gate.regions[query.shape[-2]][:, :, None]
        exchanged = exchange(query, key, value[:, :, TARGET], rows[:, :, TARGET], weights)
        active = self.gate.self_active.view(-1, *[1] * (exchanged.ndim - 1))
        rows[:, :, TARGET] = torch.where(active, exchanged, rows[:, :, TARGET])
        return _output(attn, rows.flatten(0, 2))

    def _mix(self, features: Tensor) -> None:
        """Writes the weighted sum of the three roles' features into the target rows."""
        rows = _by_role(features, self.gate)
        mixed = (self.gate.regions[features.shape[1]] * rows).sum(2)
        active = self.gate.self_active.view(-1, 1, 1, 1)
        rows[:, :, TARGET] = torch.where(active, mixed, rows[:, :, TARGET])


class EditedIDCrossProcessor:
    """Token-selective cross-attention, equation 9, in the conditional branch.

    Args:
        gate: State of the run.
        recorded: Whether this layer's maps feed the local blend, if it has their resolution.
    """

    def __init__(self, gate: AttentionalGate, *, recorded: bool = False) -> None:
        """Binds the processor to a gate."""
        self.gate = gate
        self.recorded = recorded

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Attention of `hidden_states` (rows, positions, dim) to the prompt (rows, 77, dim)."""
        query, key, value = _project(attn, hidden_states, encoder_hidden_states)
        attended = scaled_dot_product_attention(query, key, value)
        query, key, value = (_by_role(x, self.gate)[-1] for x in (query, key, value))
        _by_role(attended, self.gate)[-1, :, TARGET] = swap_tokens(
            query,
            key,
            value[:, TARGET],
            self.gate.swap,
            renormalize=self.gate.config.renormalize_cross,
        )
        if self.recorded and query.shape[-2] == self.gate.recorded:
            self._record(query, key)
        return _output(attn, attended)

    def _record(self, query: Tensor, key: Tensor) -> None:
        """Adds the maps of the elements' words, averaged over heads, to the gate's sum."""
        gate = self.gate
        maps = torch.softmax(query @ key.mT / query.shape[-1] ** 0.5, dim=-1).float()
        own = torch.einsum("frhnt,frt->frn", maps, gate.words) / maps.shape[2]
        columns = torch.einsum("frst,ft->frs", gate.swap.float(), gate.words[:, TARGET])
        target = torch.einsum("frhns,frs->fn", maps, columns) / maps.shape[2]
        gate.maps[:, :TARGET] += own[:, :TARGET]
        gate.maps[:, TARGET] += target
        gate.map_count += 1


def swap_tokens(
    query: Tensor, key: Tensor, value: Tensor, swap: Tensor, *, renormalize: bool = False
) -> Tensor:
    """The target's cross-attention output with columns of its map from other rows.

    A column of a map multiplies one value, so that moving columns between maps is the same as
    moving the target's values between tokens, one fused attention per role.

    Args:
        query: (faces, 3, heads, positions, dim).
        key: (faces, 3, heads, 77, dim).
        value: The target's, (faces, heads, 77, dim).
        swap: (faces, 3, 77, 77), see `swap_matrices`.
        renormalize: Divide by the sum of the swapped map's row.

    Returns:
        (faces, heads, positions, dim).
    """
    if renormalize:
        value = torch.cat([value, torch.ones_like(value[..., :1])], dim=-1)
    moved = swap[:, :, None] @ value[:, None]
    swapped = _attend(query, key, moved).sum(1)
    return swapped[..., :-1] / swapped[..., -1:] if renormalize else swapped


def exchange_rows(
    query: Tensor, key: Tensor, value: Tensor, own: Tensor, weights: Tensor
) -> Tensor:
    """Attention rows of the sources, values of the target ("map_query").

    Tensors are (branches, faces, [roles,] heads, positions, dim); `weights` (faces, roles, 1,
    positions, 1).
    """
    taken = weights[:, TARGET] * own
    for role in (ORIGINAL, INTERMEDIATE):
        rows = _attend(query[:, :, role], key[:, :, role], value)
        taken = taken + weights[:, role] * rows
    return taken


def exchange_columns(
    query: Tensor, key: Tensor, value: Tensor, own: Tensor, weights: Tensor
) -> Tensor:
    """Attention columns of the sources, rows scaled back to sum to one ("map_key").

    The sum of each mixed row is carried along as one more value channel.
    """
    parts = []
    for role in range(ROLES):
        weight = weights[:, role].expand(*value.shape[:-1], 1)
        weighted = torch.cat([weight * value, weight], dim=-1)
        parts.append(_attend(query[:, :, role], key[:, :, role], weighted))
    total = parts[ORIGINAL] + parts[INTERMEDIATE] + parts[TARGET]
    return total[..., :-1] / total[..., -1:]


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Fused attention under two batch axes, which fused kernels do not take.

    Values with another number of channels than the keys would also keep them away; channels of
    zeros in queries and keys change nothing.
    """
    missing, scale = value.shape[-1] - key.shape[-1], key.shape[-1] ** -0.5
    if missing:
        query, key = pad(query, (0, missing)), pad(key, (0, missing))
    attended = scaled_dot_product_attention(
        query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1), scale=scale
    )
    return attended.view(*query.shape[:2], *attended.shape[1:])


def _by_role(rows: Tensor, gate: AttentionalGate) -> Tensor:
    """A view of a batch as (branches, faces, roles, ...), to read from and to write into."""
    return rows.view(gate.branches, gate.faces, ROLES, *rows.shape[1:])


def _project(attn: Attention, hidden_states: Tensor, context: Tensor) -> list[Tensor]:
    projected = (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
    return [rearrange(x, "b n (h d) -> b h n d", h=attn.heads) for x in projected]


def _output(attn: Attention, attended: Tensor) -> Tensor:
    projected: Tensor = attn.to_out[0](rearrange(attended, "b h n d -> b n (h d)"))
    return projected


def processors(
    unet: AttentionNetwork, gate: AttentionalGate
) -> dict[str, EditedIDSelfProcessor | EditedIDCrossProcessor]:
    """One processor per attention layer of `unet`, by the names diffusers gives them.

    Raises:
        ValueError: If the network has attention of another kind than Stable Diffusion's.
    """
    chosen: dict[str, EditedIDSelfProcessor | EditedIDCrossProcessor] = {}
    for name in unet.attn_processors:
        # The order of this mapping is not that of the network; the prefix says the block.
        block = {"down_blocks": "down", "mid_block": "mid", "up_blocks": "up"}[name.split(".")[0]]
        kind = name.split(".")[-2]
        if kind == "attn1":
            gated = gate.gates_self and block in gate.config.self_layers
            chosen[name] = EditedIDSelfProcessor(gate, gated=gated)
        elif kind == "attn2":
            recorded = gate.config.blend == "attention" and block != "mid"
            chosen[name] = EditedIDCrossProcessor(gate, recorded=recorded)
        else:
            raise ValueError(
                f"attention layer {name!r} is neither attn1 nor attn2; EditedID runs on UNets "
                "of Stable Diffusion's kind"
            )
    return chosen


@contextmanager
def gated(unet: AttentionNetwork, gate: AttentionalGate) -> Iterator[None]:
    """Installs the processors of `gate` in `unet`, and its own back at the end."""
    before = dict(unet.attn_processors)
    unet.set_attn_processor(processors(unet, gate))
    try:
        yield
    finally:
        unet.set_attn_processor(before)
