"""The denoising loop shared by all FLUX identity methods."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from torch import Tensor

TimestepRounding = Literal["once", "diffusers"]


def shift_mu(image_tokens: int) -> float:
    """Exponent of FLUX's shift of the time grid for an image of `image_tokens` packed tokens.

    Linear through 0.5 at 256 tokens and 1.15 at 4096 (FLUX, sampling.py).
    """
    return 0.5 + (image_tokens - 256) * (1.15 - 0.5) / (4096 - 256)


def euler_scheduler(num_inference_steps: int, image_tokens: int) -> FlowMatchEulerDiscreteScheduler:
    """FLUX's scheduler with its grid set: noise levels from 1 to 0, shifted for the image size.

    The grid stays on the CPU, where it is read. A scheduler counts its steps, so every run of the
    loop needs its own.
    """
    if num_inference_steps < 1:
        raise ValueError(f"num_inference_steps must be at least 1, got {num_inference_steps}")
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
    )
    scheduler.set_timesteps(
        sigmas=np.linspace(1.0, 1 / num_inference_steps, num_inference_steps),
        mu=shift_mu(image_tokens),
    )
    return scheduler


def _nothing(step: int) -> None:
    """A branch that needs no preparation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Branch:
    """One pass through the transformer per step: its text, and what to set up before it.

    `prompt_embeds` is [batch, tokens, width], or a function of the step that returns it.
    `before` is called with the step, counted from 0, ahead of the pass.
    """

    prompt_embeds: Tensor | Callable[[int], Tensor]
    pooled_prompt_embeds: Tensor
    before: Callable[[int], None] = _nothing

    def text(self, step: int) -> Tensor:
        """Text tokens of this step."""
        return self.prompt_embeds(step) if callable(self.prompt_embeds) else self.prompt_embeds


class Guide(Protocol):
    """Changes the velocity of a step, as the identity guidance of EditIDv2 does."""

    def __call__(self, step: int, sigma: float, latents: Tensor, velocity: Tensor) -> Tensor:
        """The velocity to step with; `latents` and `velocity` are packed [batch, n, channels]."""
        ...


def uses_true_cfg(true_cfg_scale: float) -> bool:
    """Whether classifier-free guidance runs: the official test |scale - 1| > 0.01."""
    return abs(true_cfg_scale - 1.0) > 1e-2


@torch.no_grad()
def denoise(
    transformer: FluxTransformer2DModel,
    scheduler: FlowMatchEulerDiscreteScheduler,
    latents: Tensor,
    *,
    image_ids: Tensor,
    positive: Branch,
    guidance_scale: float,
    negative: Branch | None = None,
    true_cfg_scale: float = 1.0,
    cfg_start_step: int = 1,
    guide: Guide | None = None,
    timestep_rounding: TimestepRounding = "once",
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Integrates FLUX's velocity from noise to an image with Euler steps.

    Args:
        transformer: The model; identity hooks, if any, are set up by the branches.
        scheduler: With its time grid set, as from `euler_scheduler`.
        latents: Packed noise [batch, n, channels].
        image_ids: Positions of the packed latents, [n, 3].
        positive: The pass with the prompt.
        guidance_scale: The distilled guidance, given to both passes. Ignored by a transformer
            without guidance embedding.
        negative: The pass for true classifier-free guidance; needed when it is on.
        true_cfg_scale: s in v_neg + s (v - v_neg); 1 runs no second pass.
        cfg_start_step: The first step with a second pass; earlier ones use `v` alone.
        guide: Changes the velocity before the step is taken.
        timestep_rounding: "once" rounds the noise level to the model's dtype, as the official
            sampler does; "diffusers" rounds 1000 times the level and divides, as FluxPipeline
            does. The same in float32 up to one unit in the last place, not in bfloat16.
        on_step: Called after each step with its number and the new latents.

    Returns:
        Packed latents of the image, [batch, n, channels].

    Raises:
        ValueError: If true guidance is on and there is no negative branch.
    """
    true_cfg = uses_true_cfg(true_cfg_scale)
    if true_cfg and negative is None:
        raise ValueError(f"true_cfg_scale {true_cfg_scale} needs a negative branch, got None")
    batch, dtype = len(latents), latents.dtype
    guidance = None
    if transformer.config.guidance_embeds:
        guidance = torch.full([batch], guidance_scale, dtype=torch.float32, device=latents.device)

    def velocity(branch: Branch, step: int, timestep: Tensor) -> Tensor:
        branch.before(step)
        prompt_embeds = branch.text(step)
        out: Tensor = transformer(
            hidden_states=latents,
            timestep=timestep,
            guidance=guidance,
            pooled_projections=branch.pooled_prompt_embeds,
            encoder_hidden_states=prompt_embeds,
            txt_ids=prompt_embeds.new_zeros(prompt_embeds.shape[1], 3),
            img_ids=image_ids,
            return_dict=False,
        )[0]
        return out

    scheduler.set_begin_index(0)
    # What the transformer reads is copied ahead of the loop, which never waits for the device.
    if timestep_rounding == "once":
        levels = scheduler.sigmas[:-1].to(latents.device, dtype)
    else:
        levels = scheduler.timesteps.to(latents.device, dtype) / 1000
    for step, scheduler_timestep in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[step]
        timestep = levels[step].expand(batch)
        v = velocity(positive, step, timestep)
        if true_cfg and negative is not None and step >= cfg_start_step:
            v_neg = velocity(negative, step, timestep)
            v = v_neg + true_cfg_scale * (v - v_neg)
        if guide is not None:
            v = guide(step, float(sigma), latents, v)
        latents = scheduler.step(v, scheduler_timestep, latents, return_dict=False)[0]
        if on_step is not None:
            on_step(step, latents)
    return latents
