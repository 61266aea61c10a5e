"""What one UNet forward tells the attention processors: made per call, kept in no module."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from idbench.methods.dynamicid.layout import Layout
from idbench.methods.dynamicid.recorder import ActivationRecorder

IdMix = Literal["logit", "prob"]


@dataclass(frozen=True, slots=True)
class ContextProjection:
    """Keys and values of one cross-attention layer, split into heads.

    `text_key`, `text_value`: (batch, heads, text tokens, head width). `identity_key`,
    `identity_value`: (batch, heads, identity tokens, head width). `key_sum`: (batch, channels),
    float32, the identity keys summed over tokens and scaled by 1 / sqrt(head width).
    """

    text_key: Tensor
    text_value: Tensor
    identity_key: Tensor
    identity_value: Tensor
    key_sum: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class SAAControl:
    """The settings of semantic-activated attention for one UNet forward.

    The last `num_people * tokens_per_person` tokens of `encoder_hidden_states` are the identity
    tokens. `layout` holds one box per person; with several people it also keeps faces from
    taking each other's tokens, on every step. `layout_active` says whether this step has the
    layout term of equation 3; `at_step` sets it. `gate_threshold` 0 is the paper. With
    `activate_query` off the module is plain decoupled cross-attention: no gate, no layout, no
    mixing. `id_mix` blends two people into one face with share `mix_scale` of the first:
    "logit" scales their scores (official code), "prob" their attention.
    `projections` are keys and values by layer name, computed once because they do not change
    over the steps; layers without an entry compute them.
    """

    num_people: int
    tokens_per_person: int = 4
    layout: Layout | None = None
    layout_active: bool = False
    layout_steps: int = 0
    beta: float = 2.0
    gate_threshold: float = 0.3
    id_scale: float = 1.0
    activate_query: bool = True
    id_mix: IdMix | None = None
    mix_scale: float | None = None
    projections: Mapping[str, ContextProjection] = field(default_factory=dict)
    recorder: ActivationRecorder | None = None

    def __post_init__(self) -> None:
        """Refuses settings that contradict one another.

        Raises:
            ValueError: If boxes and people do not match or a number is out of range.
        """
        if self.num_people < 1:
            raise ValueError(f"num_people must be at least 1, got {self.num_people}")
        if self.beta < 0.0 or not 0.0 <= self.gate_threshold <= 1.0:
            raise ValueError(
                "beta must be at least 0 and gate_threshold in [0, 1], got "
                f"{self.beta} and {self.gate_threshold}"
            )
        if self.id_mix is None:
            boxes_needed = self.num_people
        else:
            boxes_needed = 1
            if self.num_people != 2 or self.mix_scale is None or not 0.0 <= self.mix_scale <= 1.0:
                raise ValueError(
                    "id_mix needs exactly 2 people and mix_scale in [0, 1], got "
                    f"{self.num_people} people and mix_scale={self.mix_scale}"
                )
        if self.layout is not None and self.layout.num_boxes != boxes_needed:
            raise ValueError(
                f"layout must have {boxes_needed} boxes per sample here, got "
                f"{self.layout.num_boxes}; give every person a box or none"
            )

    @property
    def num_identity_tokens(self) -> int:
        """How many tokens at the end of the context are identity tokens."""
        return self.num_people * self.tokens_per_person

    def at_step(self, step_index: int) -> "SAAControl":
        """The settings of denoising step `step_index`, counted from 0."""
        active = step_index < self.layout_steps
        return self if active == self.layout_active else replace(self, layout_active=active)
