"""FlexID as a method of the harness: requests in, images or failures out."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version as version_of
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from idbench.methods.common.answering import Answer, answer_by_size
from idbench.methods.common.flux_sampling import euler_scheduler
from idbench.methods.flexid.config import FlexIDConfig, SipState
from idbench.methods.flexid.gating import Weights, weights
from idbench.methods.flexid.intent import Intent, IntentParser
from idbench.methods.flexid.lexicon import load_lexicon
from idbench.methods.flexid.projector import FaceTokens, SemanticIdentityProjector
from idbench.methods.flexid.stepping import StepText, StepWeights
from idbench.methods.flexid.weights import load_clip_tokens, load_face_t5
from idbench.methods.protocol import NOTES, Capabilities, Request
from idbench.methods.pulid.pipeline import (
    EncodedIdentity,
    PuLIDPipeline,
    load_pipeline,
    with_identity,
)

PIXELS_PER_TOKEN = 16  # of a side: 8 per latent, 2 latents per token

# What neither the paper nor public code defines.
RECONSTRUCTION = (
    "dictionary of intent and matching rules",
    "eta_up, eta_down, time unit and normalisation of the schedules",
    "size and sign of the text residual",
    "visual encoder of the text residual (sip_encoder): no projection of CLIP ViT-L/14 is public",
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gating:
    """What context-aware adaptive gating decided for a prompt.

    `alpha` and `w` are the weights of equations (1) and (2) at every step, 0 where a stream is
    off. `intent` is None without gating.
    """

    alpha: Weights
    w: Weights
    intent: Intent | None
    sip: SipState

    @property
    def acting(self) -> "Gating":
        """The same as it acts: without the projector's weights, alpha is 0."""
        alpha = np.zeros_like(self.alpha) if self.sip == "unavailable" else self.alpha
        return replace(self, alpha=alpha)

    def as_notes(self) -> dict[str, Any]:
        """The same as JSON, for the records of a run."""
        return {
            "sip": self.sip,
            "alpha": self.alpha.tolist(),
            "w": self.w.tolist(),
            "intent": None if self.intent is None else self.intent.as_record(),
        }


@dataclass(frozen=True, kw_only=True)
class FlexID(FlexIDConfig):
    """FlexID (arXiv 2602.07554): a reconstruction on released weights of PuLID and FaceCLIP."""

    name: ClassVar[str] = "flexid"
    version: ClassVar[int] = 1
    capabilities: ClassVar[Capabilities] = Capabilities()

    def fingerprint(self) -> Mapping[str, object]:
        """Code version, parameters, weights and dictionaries, and what is reconstructed."""
        return {
            "method": self.name,
            "version": self.version,
            "parameters": self.parameters(),
            "weights": dict(self.digests()),
            "sip": self.sip_state,
            "lexicon": self.parser.lexicon.sha256,
            "simplemma": version_of("simplemma"),
            "reconstruction": list(RECONSTRUCTION),
        }

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """One RGB image or failure per request, in order; `NOTES` has its `Gating`."""
        return answer_by_size(requests, self, self._make)

    def gating(self, prompt: str, *, width: int | None = None, height: int | None = None) -> Gating:
        """Weights over the steps for a prompt; nothing but the dictionary is read.

        Args:
            prompt: English, Chinese or both.
            width: Of the image, for `schedule_time="sigma"`; the method's own if None.
            height: As `width`.
        """
        steps = self.num_inference_steps
        intent = self.parser(prompt, force=self.force_intent) if self.cag else None
        sigmas = None
        if self.cag and self.schedule_time == "sigma":
            sides = (width or self.width, height or self.height)
            tokens = sides[0] // PIXELS_PER_TOKEN * (sides[1] // PIXELS_PER_TOKEN)
            sigmas = euler_scheduler(steps, tokens).sigmas[:-1].tolist()
        alpha, w = weights(self.gate, steps, intent.value if intent else 0.0, sigmas)
        sip = self.sip_state
        if sip == "off":
            alpha = np.zeros_like(alpha)
        w[: self.start_step if self.vfa else steps] = 0
        return Gating(alpha=alpha, w=w, intent=intent, sip=sip)

    @cached_property
    def parser(self) -> IntentParser:
        """Finds the words of the dictionary in a prompt."""
        lexicon = load_lexicon(
            self.lexicon, categories=self.categories, extra_keywords=self.extra_keywords
        )
        return IntentParser(lexicon, self.intent_mode, self.lemmatizer)

    @cached_property
    def pipeline(self) -> PuLIDPipeline:
        """The loaded networks of the visual feature anchor, and FLUX."""
        return load_pipeline(self)

    @cached_property
    def projector(self) -> SemanticIdentityProjector:
        """The loaded networks of the semantic identity projector."""
        files = self.sip_files()
        network = load_face_t5(files["face_t5"]).to(dtype=getattr(torch, self.sip_dtype))
        face_tokens: FaceTokens = network.face_tokens
        if self.sip_encoder == "clip_l14":
            if self.visual_proj is None:
                _log.warning(
                    "clip_l14 without visual_proj: CLIP's patches pass through projections that "
                    "were not trained for them; use sip_encoder=facet5 or give visual_proj=FILE"
                )
            tokens = load_clip_tokens(files["clip"], network, self.visual_proj)
            face_tokens = tokens.to(network.positional_embedding.dtype)
        projector = SemanticIdentityProjector(
            network=network, face_tokens=face_tokens, kind=self.sip_delta, norm=self.sip_norm
        )
        if self.offload == "none":
            projector.to(self.device)
        return projector

    def _make(self, requests: Sequence[Request], width: int, height: int) -> list[Answer]:
        def make(usable: list[Request], identities: list[EncodedIdentity]) -> list[Answer]:
            prompts = [request.prompt for request in usable]
            gatings = [self.gating(prompt, width=width, height=height).acting for prompt in prompts]
            alpha = np.stack([gating.alpha for gating in gatings], axis=1)
            w = np.stack([gating.w for gating in gatings], axis=1)

            def text(prompt_embeds: Tensor) -> StepText:
                delta = self.residual(prompts, prompt_embeds, identities)
                return StepText(prompt_embeds, delta, alpha)

            answers = self.pipeline.answer(
                usable,
                identities,
                width=width,
                height=height,
                plan=StepWeights(w, self.pipeline.backbone.device),
                text=text if alpha.any() else None,
            )
            return [_noted(*pair) for pair in zip(answers, gatings, strict=True)]

        self._report_sip()
        return with_identity(self.pipeline, requests, make)

    def _report_sip(self) -> None:
        if self.sip_state == "unavailable" and "_reported" not in self.__dict__:
            self.__dict__["_reported"] = True  # once, not for every image
            _log.warning(
                "sip: unavailable, its weights are absent and FlexID runs without it; sip=on says "
                "how to get them, sip=off is silent"
            )

    def residual(
        self, prompts: Sequence[str], prompt_embeds: Tensor, identities: Sequence[EncodedIdentity]
    ) -> Tensor:
        """The residual on the text tokens [batch, tokens, dim], once per image, in float32.

        The face is PuLID's aligned crop (FFHQ's template); FaceCLIP asks for an aligned one and
        does not say which.
        """
        crops = np.stack([identity.aligned for identity in identities])
        faces = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
        mask = self._prompt_mask(prompts) if self.sip_tokens == "prompt" else None
        projector, device = self.projector, prompt_embeds.device
        projector.to(device)
        delta = projector(prompt_embeds, faces, None if mask is None else mask.to(device))
        if self.offload != "none":
            projector.to("cpu")
        return delta

    def _prompt_mask(self, prompts: Sequence[str]) -> Tensor:
        """True where T5 has a token of the prompt, [batch, tokens]."""
        encoded = self.pipeline.backbone.pipe.tokenizer_2(
            list(prompts),
            padding="max_length",
            max_length=self.max_sequence_length,
            truncation=True,
            return_tensors="pt",
        )
        mask: Tensor = encoded.attention_mask.bool()
        return mask


def _noted(answer: Answer, gating: Gating) -> Answer:
    if isinstance(answer, Image.Image):
        answer.info[NOTES] = gating.as_notes()
    return answer
