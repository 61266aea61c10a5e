"""Query decomposition of EditIDv2 (equations 6 to 8) on PuLID's modules.

A reconstruction: the released code has none of it. The printed equation 6 exchanges query and
key/value roles, which the released shapes cannot do, so the trained roles are kept and the mixture
of equation 7 is taken where the paper places it, in the query:

    Q' = alpha Q + (1 - alpha) Q_noise

with Q_noise the query of the same module at the first step, whose input is pure noise.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from idbench.methods.pulid.attention import PerceiverAttentionCA
from idbench.methods.pulid.injection import Identity, IDInjector
from idbench.methods.pulid.pipeline import Pass

AlphaSchedule = Literal["linear", "constant"]
QueryNoise = Literal["initial", "attenuate"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Alpha:
    """Strength of the identity's query over the steps (equation 8).

    alpha_i = alpha0 (1 - i / T) after i of T steps, at least `floor`; `reverse` reads the
    equation's t as the remaining noise instead, alpha_i = alpha0 i / T.
    """

    alpha0: float = 1.0
    schedule: AlphaSchedule = "linear"
    floor: float = 0.0
    reverse: bool = False

    def at(self, step: int, steps: int) -> float:
        """alpha_i for step i = 0 ... steps - 1."""
        if self.schedule == "constant":
            return self.alpha0
        done = step / steps
        return max(self.floor, self.alpha0 * (done if self.reverse else 1 - done))


class QueryDecomposition:
    """The integration: mixes each module's query with the one it had at the first step.

    Each pass (positive, negative) has its own queries. They take 20 N 2048 numbers per image,
    336 MB for 1024 px in bfloat16.
    """

    def __init__(self) -> None:
        """Starts without queries."""
        self.alpha: Tensor | None = None
        self._queries: dict[Pass, list[Tensor]] = {}
        self._current: list[Tensor] = []

    def observe(self, name: Pass) -> None:
        """Ahead of a pass whose queries are kept and used as they are."""
        self.alpha = None
        self._current = self._queries[name] = []

    def mix(self, name: Pass, alpha: Tensor) -> None:
        """Ahead of a pass whose queries are mixed with the kept ones; `alpha` [1 or batch, 1, 1].

        Raises:
            RuntimeError: If the first step of this pass was not observed.
        """
        if not self._queries.get(name):
            raise RuntimeError(f"the first step of the {name} pass was not observed")
        self.alpha = alpha
        self._current = self._queries[name]

    def clear(self) -> None:
        """Forgets the kept queries."""
        self._queries, self._current = {}, []

    def __call__(
        self,
        module: PerceiverAttentionCA,
        index: int,
        hidden_states: Tensor,
        tokens: Tensor,
        key_value: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Update of the image stream [batch, n, dim]."""
        query = module.query(hidden_states)
        if self.alpha is None:
            self._current.append(query)
        else:
            # alpha is float32, so the mixture is too, and is rounded once
            mixed = self.alpha * query + (1 - self.alpha) * self._current[index]
            query = mixed.to(query.dtype)
        return module.attend(query, *key_value)


@dataclass(frozen=True, kw_only=True, slots=True)
class DecomposedQueries:
    """Plan of the paper mode: queries of the first step kept, later ones mixed with them."""

    decomposition: QueryDecomposition
    alpha: Alpha
    id_weight: float
    start_step: int = 0

    def before(
        self, injector: IDInjector, identity: Identity, name: Pass, step: int, steps: int
    ) -> None:
        """Observes step 0 even where it has no identity; mixes from then on."""
        on = step >= self.start_step and self.id_weight != 0
        if step == 0:
            self.decomposition.observe(name)
            injector.use(identity, self.id_weight if on else 0.0)
        elif on:
            alpha = torch.full((1, 1, 1), self.alpha.at(step, steps), device=identity.tokens.device)
            self.decomposition.mix(name, alpha)
            injector.use(identity, self.id_weight)
        else:
            injector.use(None)


@dataclass(frozen=True, kw_only=True, slots=True)
class AttenuatedUpdates:
    """The cheap plan without kept queries: the update itself is scaled by alpha."""

    alpha: Alpha
    id_weight: float
    start_step: int = 0

    def before(
        self, injector: IDInjector, identity: Identity, name: Pass, step: int, steps: int
    ) -> None:
        """Uses the identity with weight id_weight * alpha_i."""
        weight = self.id_weight * self.alpha.at(step, steps)
        injector.use(identity if step >= self.start_step and weight != 0 else None, weight)
