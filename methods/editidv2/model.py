"""FLUX with trainable identity modules, as one module for accelerate to wrap."""

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn

from idbench.methods.editidv2.decomposition import QueryDecomposition
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
        alpha: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Velocity of packed latents [batch, n, channels] at levels `t` [batch].

        Args:
            latents: Packed and noisy.
            t: Noise levels in [0, 1].
            prompt_embeds: T5 tokens, [batch, tokens, width].
            pooled_prompt_embeds: CLIP's pooled text, [batch, width].
            image_ids: Positions of the latents, [n, 3].
            identity_tokens: [batch, 32, 2048]; None skips the injection.
            id_weight: One number, or one per sample; 0 trains a sample without identity.
            guidance_scale: The embedded guidance.
            alpha: Mixes queries with those of `noise` at level 1 (equation 7), [batch]. Needs an
                injector with `QueryDecomposition`, and costs a second forward without gradients.
            noise: The packed noise in `latents`, with `alpha`.
        """
        tokens = identity_tokens
        decomposition = self.injector.integration
        if isinstance(decomposition, QueryDecomposition):
            if alpha is None or noise is None or tokens is None:
                raise ValueError("query decomposition needs alpha, noise and identity_tokens")
            decomposition.clear()
            decomposition.observe("positive")
            self.injector.use(Identity(tokens), id_weight)
            with torch.no_grad():
                self._velocity(
                    noise,
                    torch.ones_like(t),
                    prompt_embeds,
                    pooled_prompt_embeds,
                    image_ids,
                    guidance_scale,
                )
            decomposition.mix("positive", alpha.view(-1, 1, 1))
        self.injector.use(None if tokens is None else Identity(tokens), id_weight)
        return self._velocity(
            latents, t, prompt_embeds, pooled_prompt_embeds, image_ids, guidance_scale
        )

    def _velocity(
        self,
        latents: Tensor,
        t: Tensor,
        prompt_embeds: Tensor,
        pooled_prompt_embeds: Tensor,
        image_ids: Tensor,
        guidance_scale: float,
    ) -> Tensor:
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
