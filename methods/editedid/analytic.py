"""A diffusion model in closed form, to test solvers without weights: a Gaussian mixture."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class GaussianMixture:
    """Isotropic Gaussians of one variance.

    Attributes:
        means: Centres, (components, dim).
        log_weights: Unnormalised log weights, (components,).
        variance: Variance of every component.
    """

    means: Tensor
    log_weights: Tensor
    variance: float

    def noise_pred(self, sample: Tensor, alpha_bar: float) -> Tensor:
        """The exact noise prediction for `sample` (batch, dim) at cumulative alpha `alpha_bar`."""
        spread = alpha_bar * self.variance + 1.0 - alpha_bar
        offset = sample[:, None] - math.sqrt(alpha_bar) * self.means
        logits = self.log_weights - offset.square().sum(-1) / (2.0 * spread)
        responsibility = torch.softmax(logits, dim=-1)
        mean_offset: Tensor = (responsibility[..., None] * offset).sum(1)
        return math.sqrt(1.0 - alpha_bar) * mean_offset / spread

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` points of the mixture, (count, dim), in float64."""
        chosen = torch.multinomial(
            torch.softmax(self.log_weights, 0), count, replacement=True, generator=generator
        )
        noise: Tensor = torch.randn(
            count, self.means.shape[1], generator=generator, dtype=self.means.dtype
        )
        return self.means[chosen].add(noise, alpha=math.sqrt(self.variance))


def random_mixture(seed: int, *, components: int = 24, dim: int = 32) -> GaussianMixture:
    """A mixture with standard normal centres and equal weights, variance 0.05."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(components, dim, generator=generator, dtype=torch.float64)
    return GaussianMixture(means, torch.zeros(components, dtype=torch.float64), 0.05)
