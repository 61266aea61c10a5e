"""FLUX with trainable identity modules, as one module for accelerate to wrap."""

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn

from idbench.methods.pulid.injection import Identity, IDInjector


class TrainableFlux(nn.Module):
    """A frozen transformer and the injector whose modules are trained.

    Args:
        transformer: Frozen here; no parameter of it gets a gradient.
        injector: Attached here.
    """

    def __init__(self, transformer: FluxTransformer2DModel, injector: IDInjector) -> None:
        """Freezes the transformer and attaches the injector."""
        super().__init__()
        self.transformer = transformer.requires_grad_(False)
        self.injector = injector.requires_grad_(True)
        injector.attach(transformer)

    def forward(
        self,
        latents: Tensor,
        t: Tensor,
        *,
        prompt_embeds: Tensor,
        pooled_prompt_embeds: Tensor,
        image_ids: Tensor,
        identity_tokens: Tensor | None,
        id_weight: float | Tensor = 1.0,
        guidance_scale: float = 1.0,
    ) -> Tensor:
        """Velocity of packed latents [batch, n, channels] at levels `t` [batch].

        `identity_tokens` of None skips the injection.
        """
        tokens = identity_tokens
        self.injector.use(None if tokens is None else Identity(tokens), id_weight)
        guidance = None
        if self.transformer.config.guidance_embeds:
            guidance = torch.full([len(latents)], guidance_scale, device=latents.device)
        velocity: Tensor = self.transformer(
            hidden_states=latents,
            timestep=t,
            guidance=guidance,
            pooled_projections=pooled_prompt_embeds,
            encoder_hidden_states=prompt_embeds,
            txt_ids=prompt_embeds.new_zeros(prompt_embeds.shape[1], 3),
            img_ids=image_ids,
            return_dict=False,
        )[0]
        return velocity
