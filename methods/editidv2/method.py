"""EditIDv2 as a method of the harness: requests in, images or failures out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from idbench.methods.common.answering import Answer, answer_by_size
from idbench.methods.editidv2.arcface import ArcFace
from idbench.methods.editidv2.config import EditIDv2Config
from idbench.methods.editidv2.decomposition import (
    AttenuatedUpdates,
    DecomposedQueries,
    QueryDecomposition,
)
from idbench.methods.editidv2.face_embedding import FoundFaces, LatentFaces
from idbench.methods.editidv2.guidance import IdentityGuide
from idbench.methods.protocol import Capabilities, Request
from idbench.methods.pulid.pipeline import (
    ConstantWeight,
    EncodedIdentity,
    IdentityPlan,
    PuLIDPipeline,
    load_pipeline,
    with_identity,
)


@dataclass(frozen=True, kw_only=True)
class EditIDv2(EditIDv2Config):
    """EditIDv2 (arXiv 2509.05659) in the reading that `mode` names."""

    name: ClassVar[str] = "editidv2"
    version: ClassVar[int] = 1
    capabilities: ClassVar[Capabilities] = Capabilities()

    def fingerprint(self) -> Mapping[str, object]:
        """Code version, parameters, weights by sha256, and what is reconstructed."""
        return {
            "method": self.name,
            "version": self.version,
            "parameters": self.parameters(),
            "weights": dict(self.digests()),
            "reconstruction": self.reconstructed(),
        }

    def reconstructed(self) -> list[str]:
        """The parts in use that neither code nor paper define."""
        if self.mode == "released":
            return []
        parts = ["query decomposition (equations 6-8)"]
        if self.beta0 > 0:
            parts.append("identity guidance (equation 11), recogniser glintr100")
        return parts

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """One RGB image or failure per request, in order."""
        return answer_by_size(requests, self, self._make)

    @cached_property
    def pipeline(self) -> PuLIDPipeline:
        """The loaded networks."""
        return load_pipeline(self, QueryDecomposition() if self.decomposes else None)

    @cached_property
    def faces(self) -> LatentFaces:
        """What finds and embeds faces in latents, for the guidance."""
        backbone = self.pipeline.backbone
        vae = backbone.pipe.vae
        arcface = ArcFace(self.files()["glintr100"]).to(backbone.device)
        vae.requires_grad_(False)

        def decode(latents: Tensor) -> Tensor:
            image: Tensor = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
            return image

        return LatentFaces(
            decode,
            self.pipeline.extractor.recogniser,
            arcface.requires_grad_(False),
            scale=backbone.pipe.vae_scale_factor,
        )

    def plan(self) -> IdentityPlan:
        """How the identity acts over the steps; made anew for every call."""
        if self.mode == "released":
            return ConstantWeight(self.id_weight, self.start_step)
        integration = self.pipeline.injector.integration
        if isinstance(integration, QueryDecomposition):
            return DecomposedQueries(
                decomposition=integration,
                alpha=self.alpha,
                id_weight=self.id_weight,
                start_step=self.start_step,
            )
        return AttenuatedUpdates(
            alpha=self.alpha, id_weight=self.id_weight, start_step=self.start_step
        )

    def guide(
        self, identities: Sequence[EncodedIdentity], width: int, height: int
    ) -> IdentityGuide | None:
        """The identity guidance of one batch, where it is on."""
        if self.mode == "released" or self.beta0 == 0:
            return None
        backbone = self.pipeline.backbone

        def faces(clean: Tensor) -> FoundFaces:
            return self.faces(backbone.unpack(clean, width, height))

        reference = torch.stack([torch.from_numpy(i.arcface) for i in identities])
        return IdentityGuide(
            faces=faces,
            reference=reference.to(backbone.device),
            beta0=self.beta0,
            steps=self.num_inference_steps,
        )

    def _make(self, requests: Sequence[Request], width: int, height: int) -> list[Answer]:
        def make(usable: list[Request], identities: list[EncodedIdentity]) -> list[Answer]:
            guide = self.guide(identities, width, height)
            plan = self.plan()
            try:
                answers = self.pipeline.answer(
                    usable, identities, width=width, height=height, plan=plan, guide=guide
                )
            finally:
                if isinstance(plan, DecomposedQueries):
                    plan.decomposition.clear()
            if guide is not None:
                guide.report()
            return answers

        return with_identity(self.pipeline, requests, make)
