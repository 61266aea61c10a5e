"""Identity injection into a FLUX transformer by forward hooks on diffusers' blocks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from idbench.methods.pulid.attention import PerceiverAttentionCA

DOUBLE_INTERVAL = 2  # after double blocks 0, 2, ..., 18 (official flux/model.py)
SINGLE_INTERVAL = 4  # after single blocks 0, 4, ..., 36


class Integration(Protocol):
    """How a cross-attention module turns image stream and identity tokens into an update."""

    def __call__(
        self,
        module: PerceiverAttentionCA,
        index: int,
        hidden_states: Tensor,
        tokens: Tensor,
        key_value: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Update [batch, n, dim] of `hidden_states`; `index` counts the modules from 0.

        `key_value` is what the module computes from `tokens`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    """Identity tokens [batch or 1, tokens, kv_dim] and what the modules compute from them once."""

    tokens: Tensor
    key_values: list[tuple[Tensor, Tensor]] | None = None


def injected_blocks(transformer: FluxTransformer2DModel) -> list[nn.Module]:
    """The blocks after which identity is injected, in module order."""
    return [
        *transformer.transformer_blocks[::DOUBLE_INTERVAL],
        *transformer.single_transformer_blocks[::SINGLE_INTERVAL],
    ]


class IDInjector(nn.Module):
    """Adds `id_weight * CA_i(identity, image stream)` to the output of selected FLUX blocks.

    Owns the cross-attention modules and the identity of the current pass. Without an identity the
    hooks return at once and the transformer computes what it computes without them, bit for bit.
    The state is not thread-safe, and must not change between a forward and its backward when
    gradients are checkpointed. Register before compiling: compiled graphs do not notice new hooks.

    Parameter names (`pulid_ca.{i}.*`) are those of the released files.

    Args:
        modules: Cross-attention modules in the order of the blocks, doubles first.
        integration: What replaces the plain module call; None is PuLID.
    """

    def __init__(
        self, modules: Sequence[PerceiverAttentionCA], integration: Integration | None = None
    ) -> None:
        """Keeps the modules; `attach` registers the hooks."""
        super().__init__()
        self.pulid_ca = nn.ModuleList(modules)
        self.integration = integration
        self.identity_tokens: Tensor | None = None
        self.key_values: list[tuple[Tensor, Tensor]] | None = None
        self.id_weight: Tensor = torch.ones(1, 1, 1)
        self._handles: list[RemovableHandle] = []

    def attach(self, transformer: FluxTransformer2DModel) -> None:
        """Registers the hooks.

        Raises:
            ValueError: If the number of modules does not fit the depth of the transformer.
            RuntimeError: If this injector is attached already, or another one is attached to
                this transformer: two identities in one stream would be added to each other.
        """
        blocks = injected_blocks(transformer)
        if len(blocks) != len(self.pulid_ca):
            raise ValueError(
                f"the transformer has {len(blocks)} injection points, "
                f"the weights have {len(self.pulid_ca)} modules"
            )
        if self._handles:
            raise RuntimeError("this IDInjector is attached already; call remove() first")
        for block in blocks:
            if any(hasattr(hook, "id_injector") for hook in block._forward_hooks.values()):
                raise RuntimeError(
                    "another IDInjector is attached to this transformer; remove() it first, "
                    "or load a second transformer"
                )
        self._handles = [
            block.register_forward_hook(self._hook(index)) for index, block in enumerate(blocks)
        ]

    def remove(self) -> None:
        """Takes the hooks off again; the transformer is as it was before `attach`."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def prepare(self, tokens: Tensor) -> Identity:
        """Keys and values of all modules for identity tokens, which do not change over the steps.

        Args:
            tokens: [batch or 1, tokens, kv_dim].
        """
        tokens = tokens.to(self._module(0).to_kv.weight)
        with torch.no_grad():
            modules = map(self._module, range(len(self.pulid_ca)))
            return Identity(tokens, [module.key_value(tokens) for module in modules])

    def use(self, identity: Identity | None, id_weight: float | Tensor = 1.0) -> None:
        """Sets the identity of the passes that follow; None is a pass without identity.

        Args:
            identity: From `prepare`, or `Identity(tokens, None)` where gradients must reach the
                key and value projections.
            id_weight: Factor on the update: one number, or one per sample as [batch].
        """
        self.identity_tokens = identity.tokens if identity else None
        self.key_values = identity.key_values if identity else None
        if identity:
            # float32 even when the stream is bfloat16: the factor itself is never rounded, and as
            # a tensor it can change every step without a new compiled graph. Neither way waits for
            # the device.
            device = identity.tokens.device
            if isinstance(id_weight, Tensor):
                weight = id_weight.to(device, torch.float32, non_blocking=True)
            else:
                weight = torch.full((1,), id_weight, dtype=torch.float32, device=device)
            self.id_weight = weight.reshape(-1, 1, 1)

    def update(self, index: int, hidden_states: Tensor) -> Tensor:
        """The image stream after injection point `index`."""
        tokens = self.identity_tokens
        if tokens is None:
            return hidden_states
        module = self._module(index)
        cached = self.key_values
        key_value = cached[index] if cached is not None else module.key_value(tokens)
        if self.integration is None:
            delta = module.attend(module.query(hidden_states), *key_value)
        else:
            delta = self.integration(module, index, hidden_states, tokens, key_value)
        return hidden_states + (self.id_weight * delta).to(hidden_states.dtype)

    def _module(self, index: int) -> PerceiverAttentionCA:
        return cast(PerceiverAttentionCA, self.pulid_ca[index])

    def _hook(self, index: int) -> Callable[..., tuple[Tensor, Tensor] | None]:
        def hook(
            block: nn.Module, args: tuple[object, ...], output: tuple[Tensor, Tensor]
        ) -> tuple[Tensor, Tensor] | None:
            if self.identity_tokens is None:
                return None
            encoder_hidden_states, hidden_states = output
            return encoder_hidden_states, self.update(index, hidden_states)

        # Dynamo keeps its graphs by code object, and at most eight for one. Each point has a module
        # of its own and so needs its own: with one code object for all, compiling block by block
        # fails at the released depth, and each call searches through the graphs of all points.
        hook.__code__ = hook.__code__.replace(co_name=f"hook_{index}")
        hook.id_injector = self  # type: ignore[attr-defined]  # marks the hook for `attach`
        return hook
