"""Null-text optimisation of both images of a pair at once (equation 4).

The unconditional embeddings of each step are fitted so that guided reconstruction from the shared
start retraces the states of the mixed inversion. Loop, optimiser, thresholds and step sizes are
those of null-text inversion (Mokady et al. 2023).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from idbench.methods.editedid.config import EditedIDConfig
from idbench.methods.editedid.scheduler import HybridDDIMDPMScheduler
from idbench.methods.editedid.solver import Prediction

# (latents, timestep, prompt embeddings) -> predicted noise; all shaped (pairs, roles, ...)
ConditionalPredictor = Callable[[Tensor, int, Tensor], Tensor]

# Adam of torch.optim with its defaults.
_BETAS, _EPS = (0.9, 0.999), 1e-8


@dataclass(frozen=True, slots=True)
class NullText:
    """What the optimisation found; `pairs` are frozen one by one, as if each were run alone.

    Attributes:
        embeddings: One tensor per step, (pairs, roles, tokens, dim).
        states: N + 1 committed latents, levels 0 to N, (pairs, roles, ...).
        losses: For each step, the joint loss of each inner iteration, (iterations, pairs).
        inner_steps: For each step, the updates that each pair took, (pairs,).
    """

    embeddings: list[Tensor]
    states: list[Tensor]
    losses: list[Tensor]
    inner_steps: list[Tensor]


def optimise_null_text(
    targets: list[Tensor],
    noise_pred: ConditionalPredictor,
    prompt_embeds: Tensor,
    null_embeds: Tensor,
    scheduler: HybridDDIMDPMScheduler,
    config: EditedIDConfig,
    *,
    loss_scale: float = 1.0,
) -> NullText:
    """Fits the null embeddings of every step.

    Args:
        targets: Aligned states at levels 0 (the start) to N, (pairs, roles, ...) each.
        noise_pred: The network; differentiable in the embeddings.
        prompt_embeds: (pairs, roles, tokens, dim).
        null_embeds: Embedding of the empty prompt, broadcastable to that.
        scheduler: With its timesteps set.
        config: Guidance, inner steps, step sizes and thresholds.
        loss_scale: Factor of the loss in the backward pass, against underflow in half precision.
    """
    guidance = config.guidance_scale
    state, history = targets[0], None
    null = null_embeds.expand_as(prompt_embeds).to(state.dtype)
    found = NullText([], [state], [], [])
    for step, timestep in enumerate(scheduler.timesteps.tolist()):
        with torch.no_grad():
            conditional = noise_pred(state, timestep, prompt_embeds)

        def advance(
            embeds: Tensor,
            state: Tensor = state,
            conditional: Tensor = conditional,
            history: Prediction | None = history,
            step: int = step,
            timestep: int = timestep,
        ) -> tuple[Tensor, Prediction | None]:
            unconditional = noise_pred(state, timestep, embeds)
            guided = unconditional + guidance * (conditional - unconditional)
            return scheduler.step(state, guided, step, history)

        null, losses, taken = _fit(
            advance,
            null,
            targets[step + 1],
            steps=config.null_inner_steps,
            lr=config.null_lr * (1.0 - step * config.null_lr_decay),
            stop=config.null_stop + step * config.null_stop_growth,
            loss_scale=loss_scale,
        )
        with torch.no_grad():
            state, history = advance(null)
        found.embeddings.append(null)
        found.states.append(state)
        found.losses.append(losses)
        found.inner_steps.append(taken)
    return found


def _fit(
    advance: Callable[[Tensor], tuple[Tensor, Prediction | None]],
    null: Tensor,
    target: Tensor,
    *,
    steps: int,
    lr: float,
    stop: float,
    loss_scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Adam on the embeddings of one diffusion step.

    A pair whose joint loss has passed `stop` per role takes the update of that iteration and is
    left alone from then on, so that a batch gives what its pairs give alone.
    """
    moment, second_moment = torch.zeros_like(null), torch.zeros_like(null)
    active = torch.ones(null.shape[0], dtype=torch.bool, device=null.device)
    taken = torch.zeros_like(active, dtype=torch.long)
    losses = []
    for iteration in range(1, steps + 1):
        embeds = null.detach().requires_grad_()
        error = (advance(embeds)[0] - target).square().flatten(2).mean(-1).sum(1)
        (gradient,) = torch.autograd.grad(loss_scale * error.sum(), embeds)
        gradient = gradient / loss_scale
        moment = torch.lerp(gradient, moment, _BETAS[0])
        second_moment = torch.lerp(gradient.square(), second_moment, _BETAS[1])
        denominator = (second_moment / (1 - _BETAS[1] ** iteration)).sqrt() + _EPS
        update = lr / (1 - _BETAS[0] ** iteration) * moment / denominator
        null = null - active.view(-1, *[1] * (null.ndim - 1)) * update
        losses.append(error.detach())
        taken += active
        active = active & (error.detach() >= stop * target.shape[1])
        if not active.any():
            break
    return null.detach(), torch.stack(losses), taken
