"""`base:flux-dev`: FLUX.1-dev on the prompt alone, the without-ID counterpart of its methods.

Paper: none; model card of black-forest-labs/FLUX.1-dev. Licence of the weights: FLUX.1 [dev]
Non-Commercial License; access is granted on their page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from idbench.methods.common.answering import NOT_FINITE, Answer, answer_by_size
from idbench.methods.common.flux_backbone import FluxBackbone
from idbench.methods.common.flux_config import FluxConfig
from idbench.methods.common.flux_sampling import Branch, denoise
from idbench.methods.protocol import Capabilities, Request


@dataclass(frozen=True, kw_only=True)
class FluxDev(FluxConfig):
    """FLUX.1-dev without identity.

    It runs the loop of the identity methods. With the same steps, guidance, size and text length,
    their images at identity weight 0 are these, bit for bit.
    """

    name: ClassVar[str] = "base:flux-dev"
    version: ClassVar[int] = 1
    capabilities: ClassVar[Capabilities] = Capabilities(uses_references=False)

    def fingerprint(self) -> Mapping[str, object]:
        """Code version, parameters and weights by sha256."""
        return {
            "method": self.name,
            "version": self.version,
            "parameters": self.parameters(),
            "weights": dict(self.digests()),
        }

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """One RGB image or failure per request, in order."""
        return answer_by_size(requests, self, self._make)

    @cached_property
    def backbone(self) -> FluxBackbone:
        """The loaded model."""
        backbone = FluxBackbone.load(self)
        backbone.place()
        return backbone

    def _make(self, requests: Sequence[Request], width: int, height: int) -> list[Answer]:
        backbone = self.backbone
        prompt_embeds, pooled = backbone.encode_prompt([request.prompt for request in requests])
        noise, image_ids = backbone.noise([request.seed for request in requests], width, height)
        latents = denoise(
            backbone.transformer,
            backbone.scheduler(noise.shape[1]),
            noise,
            image_ids=image_ids,
            positive=Branch(prompt_embeds=prompt_embeds, pooled_prompt_embeds=pooled),
            guidance_scale=self.guidance_scale,
            timestep_rounding=self.timestep_rounding,
        )
        images = backbone.decode(latents, width, height)
        backbone.release()
        return [NOT_FINITE if image is None else image for image in images]
