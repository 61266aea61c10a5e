"""The dynamic weight gate: how much preservation (gamma) against personalization (1 - gamma)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

Gamma = float | Tensor
"""One number for all samples, or (batch,) with one per sample; in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Weights of the two branches in one layer: scale * gamma and scale * (1 - gamma).

    `gamma` is in [0, 1]; a tensor has one value per sample and is not checked, so that the device
    is not waited for. `scale` is s, at least 0.
    """

    gamma: Gamma
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            ValueError: If a number is outside its range.
        """
        if not isinstance(self.gamma, Tensor):
            check_gamma(self.gamma)
        check_scale(self.scale)

    @property
    def weights(self) -> tuple[Gamma, Gamma]:
        """What the outputs of the preservation and personalization branches are multiplied by."""
        return self.scale * self.gamma, self.scale * (1 - self.gamma)


def check_gamma(gamma: float, name: str = "gamma") -> None:
    """Refuses a gate outside [0, 1].

    Raises:
        ValueError: Naming the value.
    """
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(
            f"{name} must be in [0, 1] (0 personalization, 1 preservation), got {gamma}"
        )


def check_scale(scale: float, name: str = "scale") -> None:
    """Refuses a strength that is negative or no number.

    Raises:
        ValueError: Naming the value.
    """
    if not 0.0 <= scale < math.inf:
        raise ValueError(f"{name} must be at least 0 and finite, got {scale}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Gates:
    """The gates of all layers.

    `layer_gamma` and `layer_scale` hold for the layers whose path begins with a key, such as
    "down_blocks", "up_blocks.1" or "mid_block"; the longest key wins. A layer's scale multiplies
    `scale`; its gamma replaces `gamma`.
    """

    gamma: Gamma
    scale: float = 1.0
    layer_gamma: Mapping[str, float] = field(default_factory=dict)
    layer_scale: Mapping[str, float] = field(default_factory=dict)

    def of_layers(self, layers: Sequence[str]) -> dict[str, Gate]:
        """The gate of each layer.

        Raises:
            ValueError: If a key fits no layer, or a value is outside its range.
        """
        for name, values in (("layer_gamma", self.layer_gamma), ("layer_scale", self.layer_scale)):
            for key in values:
                if not any(_begins(layer, key) for layer in layers):
                    raise ValueError(
                        f"{name} has {key!r}, with which no layer begins; layers: "
                        f"{', '.join(sorted(layers))}"
                    )
        return {
            layer: Gate(
                _of(layer, self.layer_gamma, self.gamma),
                self.scale * float(_of(layer, self.layer_scale, 1.0)),
            )
            for layer in layers
        }


def _begins(layer: str, key: str) -> bool:
    return layer == key or layer.startswith(f"{key}.")


def _of(layer: str, values: Mapping[str, float], default: Gamma) -> Gamma:
    keys = [key for key in values if _begins(layer, key)]
    return values[max(keys, key=len)] if keys else default


class TrainingGate(nn.Module):
    """gamma(x) of equation 5: alpha for an image, 1 - beta for a video or multi-view sample.

    With `learn`, alpha and beta are sigmoids of parameters that start at logit(alpha) and
    logit(beta); otherwise there is no parameter.
    """

    def __init__(self, alpha: float = 0.9, beta: float = 0.9, *, learn: bool = False) -> None:
        """Keeps the two.

        Raises:
            ValueError: If one is outside [0, 1], or at its ends where it is to be learned.
        """
        super().__init__()
        for name, value in (("alpha", alpha), ("beta", beta)):
            check_gamma(value, name)
            if learn and value in (0.0, 1.0):
                raise ValueError(f"{name} must be inside (0, 1) to be learned, got {value}")
        self.alpha, self.beta = alpha, beta
        self.logits = nn.Parameter(torch.logit(torch.tensor([alpha, beta]))) if learn else None

    def forward(self, varied: Tensor, jitter: Tensor | None = None) -> Tensor:
        """Gamma of each sample, (batch,) in float32.

        Args:
            varied: (batch,) bool, true for video and multi-view samples.
            jitter: (batch,) added to gamma, which is then kept in [0, 1].
        """
        if self.logits is None:
            alpha, beta = torch.tensor([self.alpha, self.beta], device=varied.device)
        else:
            alpha, beta = self.logits.sigmoid()
        gamma = torch.where(varied, 1 - beta, alpha)
        return gamma if jitter is None else (gamma + jitter).clamp(0.0, 1.0)
