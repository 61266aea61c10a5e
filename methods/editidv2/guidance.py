"""Identity guidance of EditIDv2 (equation 11): a reconstruction, off by default.

The paper names the function g (gradients of a cosine similarity) and the schedule (cosine decay)
but neither sign, scale nor strength. Here, with x0 = x - t v the predicted clean latents,

    v' = v + beta_i g |v| / |g|,   g = grad_x (1 - cos(F(D(x0)), e_ref))

per sample. Sampling moves along -v, so adding the gradient of the loss lowers the loss.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from idbench.methods.editidv2.face_embedding import FoundFaces
from idbench.methods.editidv2.losses import cosine_decay, id_distance

_EPS = 1e-8
_log = logging.getLogger(__name__)


def add_guidance(velocity: Tensor, gradient: Tensor, beta: float) -> Tensor:
    """The velocity plus beta times the gradient, scaled per sample to the velocity's norm."""
    norm_v = velocity.float().flatten(1).norm(dim=1).view(-1, 1, 1)
    norm_g = gradient.float().flatten(1).norm(dim=1).view(-1, 1, 1)
    guided: Tensor = velocity.float() + beta * gradient.float() * norm_v / (norm_g + _EPS)
    return guided.to(velocity.dtype)


def loss_gradient(
    latents: Tensor, velocity: Tensor, sigma: float, loss: Callable[[Tensor], Tensor | None]
) -> Tensor:
    """Gradient with respect to the latents of a loss of x - sigma v, v held constant.

    Args:
        latents: Packed, [batch, n, channels].
        velocity: As `latents`.
        sigma: Noise level.
        loss: Of the predicted clean latents, summed over the batch; None for no loss at all.
    """
    with torch.enable_grad():
        x = latents.detach().float().requires_grad_()
        value = loss(x - sigma * velocity.detach().float())
        if value is None or not value.requires_grad:
            return torch.zeros_like(x)
        return torch.autograd.grad(value, x)[0]


@dataclass(kw_only=True, slots=True)
class IdentityGuide:
    """Guides one batch towards its reference embeddings; made per call.

    Attributes:
        faces: Packed clean latents to the embeddings of their faces.
        reference: Embeddings of the references, [batch, 512].
        beta0: Strength at the first step.
        steps: Number of steps, for the decay.
        skipped: Per sample, the steps in which no face was found and nothing was added.
    """

    faces: Callable[[Tensor], FoundFaces]
    reference: Tensor
    beta0: float
    steps: int
    skipped: list[int] = field(init=False)

    def __post_init__(self) -> None:
        """Starts the count."""
        self.skipped = [0] * len(self.reference)

    def __call__(self, step: int, sigma: float, latents: Tensor, velocity: Tensor) -> Tensor:
        """The guided velocity; samples without a visible face keep theirs."""
        beta = self.beta0 * cosine_decay(step, self.steps)
        if beta == 0:
            return velocity

        def loss(clean: Tensor) -> Tensor | None:
            seen = self.faces(clean)
            for index, found in enumerate(seen.found.tolist()):
                self.skipped[index] += not found
            if seen.embeddings is None:
                return None
            return id_distance(seen.embeddings, self.reference[seen.found]).sum()

        return add_guidance(velocity, loss_gradient(latents, velocity, sigma, loss), beta)

    def report(self) -> None:
        """Logs how many steps had no face to guide by."""
        for index, count in enumerate(self.skipped):
            if count:
                _log.info("image %d: no face in %d of %d guided steps", index, count, self.steps)
