"""PuLID-FLUX: images of a person from one photo and a prompt."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import ClassVar, Literal, Protocol

import torch
from PIL import Image
from torch import Tensor

from idbench.methods.common.answering import NOT_FINITE, Answer, answer_by_size
from idbench.methods.common.flux_backbone import FluxBackbone
from idbench.methods.common.flux_sampling import Branch, Guide, denoise, uses_true_cfg
from idbench.methods.protocol import Capabilities, Failure, Reference, Request
from idbench.methods.pulid.config import PuLIDConfig
from idbench.methods.pulid.encoder import IDFormer
from idbench.methods.pulid.extraction import IDExtractor, IDFeatures, without_identity
from idbench.methods.pulid.faces import (
    AntelopeV2,
    Array,
    BiSeNetParser,
    ImageArray,
    NoFaceError,
    RetinaFaceResNet50,
)
from idbench.methods.pulid.injection import Identity, IDInjector, Integration
from idbench.methods.pulid.weights import load_pulid, load_tower

Pass = Literal["positive", "negative"]
# Text tokens of each step, from those of the prompts [batch, tokens, width].
TextPlan = Callable[[Tensor], Callable[[int], Tensor]]

UNIT_GAINS = (1.0, 1.0, 1.0, 1.0, 1.0)
_KEPT_PHOTOS = 1024  # encoded photos in memory, about a megabyte each


@dataclass(frozen=True, slots=True)
class EncodedIdentity:
    """A photo as the injector and its relatives use it.

    `tokens` are [1, 32, 2048]; `arcface`, `aligned` and `fallback` are those of `IDFeatures`.
    """

    tokens: Tensor
    arcface: Array
    aligned: ImageArray
    fallback: bool


class IdentityPlan(Protocol):
    """Decides, ahead of each pass, which identity the injector uses and how strongly."""

    def before(
        self, injector: IDInjector, identity: Identity, name: Pass, step: int, steps: int
    ) -> None:
        """Sets the injector up for pass `name` of `step`, counted from 0, of `steps`."""
        ...


@dataclass(frozen=True, slots=True)
class ConstantWeight:
    """PuLID's plan: the same weight from a start step on, plain FLUX before."""

    id_weight: float
    start_step: int = 0

    def before(
        self, injector: IDInjector, identity: Identity, name: Pass, step: int, steps: int
    ) -> None:
        """Uses the identity from the start step on; weight 0 is plain FLUX."""
        on = step >= self.start_step and self.id_weight != 0
        injector.use(identity if on else None, self.id_weight)


class PuLIDPipeline:
    """The loaded networks and the named steps from photo and prompt to image.

    Args:
        backbone: FLUX, placed after the injector was attached.
        extractor: Reads photos.
        encoder: Turns features into identity tokens.
        injector: Attached to the backbone's transformer.
        config: Sampler settings.
        scale_gains: Factors on the encoder's five scales; ones are PuLID.
    """

    def __init__(
        self,
        backbone: FluxBackbone,
        extractor: IDExtractor,
        encoder: IDFormer,
        injector: IDInjector,
        config: PuLIDConfig,
        scale_gains: tuple[float, ...] = UNIT_GAINS,
    ) -> None:
        """Keeps the networks."""
        self.backbone = backbone
        self.extractor = extractor
        self.encoder = encoder
        self.injector = injector
        self.config = config
        self.scale_gains = scale_gains
        self._encoded: OrderedDict[str, EncodedIdentity | NoFaceError] = OrderedDict()

    def encode_identity(self, reference: Reference) -> EncodedIdentity:
        """The encoded photo of a reference, kept by its sha256.

        Raises:
            NoFaceError: If the photo shows no usable face; that is remembered as well.
        """
        key = reference.sha256
        if key not in self._encoded:
            try:
                self._encoded[key] = self._encode(self.extractor(reference.image))
            except NoFaceError as error:
                self._encoded[key] = error
            if len(self._encoded) > _KEPT_PHOTOS:
                self._encoded.popitem(last=False)
        found = self._encoded[key]
        if isinstance(found, NoFaceError):
            raise found
        return found

    @cached_property
    def unconditional_tokens(self) -> Tensor:
        """Tokens [1, 32, 2048] of nobody, for the second pass of true guidance."""
        _, patches, width = self.extractor.tower.pos_embed.shape
        like = self.encoder.latents
        id_cond, hidden = without_identity(
            like.new_empty(1, self.encoder.id_dim),
            [like.new_empty(1, patches, width)] * len(UNIT_GAINS),
        )
        with torch.no_grad():
            tokens: Tensor = self.encoder(id_cond, hidden, self.scale_gains)
        return tokens

    def _encode(self, features: IDFeatures) -> EncodedIdentity:
        like = self.encoder.latents
        with torch.no_grad():
            hidden = [scale.to(like) for scale in features.vit_hidden]
            tokens = self.encoder(features.id_cond.to(like), hidden, self.scale_gains)
        return EncodedIdentity(tokens, features.arcface, features.aligned, features.fallback)

    def __call__(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        tokens: Tensor,
        *,
        width: int,
        height: int,
        plan: IdentityPlan,
        guide: Guide | None = None,
        text: TextPlan | None = None,
        on_step: Callable[[int, Tensor], None] | None = None,
    ) -> list[Image.Image | None]:
        """Images for prompts and identities of one batch; None where pixels are no numbers.

        Args:
            prompts: One per image.
            seeds: Of the starting noise, one per image.
            tokens: Identity tokens, [batch, 32, 2048].
            width: In pixels, a multiple of 16.
            height: As `width`.
            plan: Strength of the identity over the steps.
            guide: Changes the velocity of each step.
            text: Changes the text tokens of each step, not those of the second pass.
            on_step: Called after each step with its number and the packed latents.
        """
        backbone, injector, config = self.backbone, self.injector, self.config
        prompt_embeds, pooled = backbone.encode_prompt(prompts)
        noise, image_ids = backbone.noise(seeds, width, height)
        injector.to(backbone.device)
        steps_text = prompt_embeds if text is None else text(prompt_embeds)
        positive = self._branch("positive", steps_text, pooled, tokens, plan)
        negative = None
        if uses_true_cfg(config.true_cfg_scale):
            texts = backbone.encode_prompt([config.negative_prompt] * len(prompts))
            negative = self._branch("negative", *texts, self.unconditional_tokens, plan)
        try:
            latents = denoise(
                backbone.transformer,
                backbone.scheduler(noise.shape[1]),
                noise,
                image_ids=image_ids,
                positive=positive,
                negative=negative,
                guidance_scale=config.guidance_scale,
                true_cfg_scale=config.true_cfg_scale,
                cfg_start_step=config.cfg_start_step,
                guide=guide,
                timestep_rounding=config.timestep_rounding,
                on_step=on_step,
            )
        finally:
            injector.use(None)
        images = backbone.decode(latents, width, height)
        if config.offload != "none":
            injector.to("cpu")
        backbone.release()
        return images

    def answer(
        self,
        requests: Sequence[Request],
        identities: Sequence[EncodedIdentity],
        *,
        width: int,
        height: int,
        plan: IdentityPlan,
        guide: Guide | None = None,
        text: TextPlan | None = None,
    ) -> list[Answer]:
        """Answers to requests whose photos are encoded already; arguments as in a call."""
        images = self(
            [request.prompt for request in requests],
            [request.seed for request in requests],
            torch.cat([identity.tokens for identity in identities]),
            width=width,
            height=height,
            plan=plan,
            guide=guide,
            text=text,
        )
        return [NOT_FINITE if image is None else image for image in images]

    def _branch(
        self,
        name: Pass,
        prompt_embeds: Tensor | Callable[[int], Tensor],
        pooled: Tensor,
        tokens: Tensor,
        plan: IdentityPlan,
    ) -> Branch:
        identity = self.injector.prepare(tokens)
        steps = self.config.num_inference_steps

        def before(step: int) -> None:
            plan.before(self.injector, identity, name, step, steps)

        return Branch(prompt_embeds=prompt_embeds, pooled_prompt_embeds=pooled, before=before)


def load_pipeline(
    config: PuLIDConfig,
    integration: Integration | None = None,
    scale_gains: tuple[float, ...] = UNIT_GAINS,
) -> PuLIDPipeline:
    """Reads all networks from the files of a configuration.

    A `pulid` file with `pulid_ca.*` alone takes its ID encoder from the base file of `weights`.

    Raises:
        FileNotFoundError: If a file is missing; the message says which parameter to set.
        ValueError: If a file does not hold the network it should.
    """
    files = config.files()
    weights = load_pulid(files["pulid"])
    encoder = weights.encoder
    if encoder is None:
        encoder = load_pulid(files["pulid_base"]).encoder if "pulid_base" in files else None
    if encoder is None:
        raise ValueError(
            f"{files['pulid']} has no ID encoder (pulid_encoder.*); set pulid_base=PATH to a "
            "released PuLID-FLUX file"
        )
    backbone = FluxBackbone.load(config)
    injector = IDInjector(weights.ca, integration).to(backbone.dtype).requires_grad_(False)
    injector.attach(backbone.transformer)
    backbone.place()
    encoder.to(backbone.device, backbone.dtype).requires_grad_(False)
    extractor = load_extractor(config)
    return PuLIDPipeline(backbone, extractor, encoder.eval(), injector.eval(), config, scale_gains)


def load_extractor(config: PuLIDConfig) -> IDExtractor:
    """The networks that read the reference photo."""
    files = config.extraction_files()
    tower = load_tower(files["eva"]).to(config.device, getattr(torch, config.dtype))
    return IDExtractor(
        AntelopeV2(files["scrfd"], files["glintr100"], config.device),
        RetinaFaceResNet50(files["retinaface"], config.device),
        BiSeNetParser(files["bisenet"], config.device),
        tower.eval().requires_grad_(False),
        antialias=config.antialias,
        face_select=config.face_select,
    )


def photo_of(request: Request) -> Reference | None:
    """The reference photo of a single-person request: the first with the role "identity"."""
    return next((r for r in request.references if r.role == "identity"), None)


def with_identity(
    pipeline: PuLIDPipeline,
    requests: Sequence[Request],
    make: Callable[[list[Request], list[EncodedIdentity]], Sequence[Answer]],
) -> list[Answer]:
    """Answers of `make` for requests whose photo shows a face, failures for the others."""
    answers: list[Answer | None] = []
    usable: list[Request] = []
    identities: list[EncodedIdentity] = []
    for request in requests:
        photo = photo_of(request)
        if photo is None:
            answers.append(Failure("no_reference", "the request has no identity photo"))
            continue
        try:
            identities.append(pipeline.encode_identity(photo))
        except NoFaceError as error:
            answers.append(Failure("no_face", f"{error.stage}: {error}"))
        else:
            usable.append(request)
            answers.append(None)
    made = iter(make(usable, identities) if usable else ())
    return [next(made) if answer is None else answer for answer in answers]


@dataclass(frozen=True, kw_only=True)
class PuLIDFlux(PuLIDConfig):
    """PuLID-FLUX (arXiv 2404.16022, FLUX variant of the official repository)."""

    name: ClassVar[str] = "pulid-flux"
    version: ClassVar[int] = 1
    capabilities: ClassVar[Capabilities] = Capabilities()

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
    def pipeline(self) -> PuLIDPipeline:
        """The loaded networks."""
        return load_pipeline(self)

    def _make(self, requests: Sequence[Request], width: int, height: int) -> list[Answer]:
        plan = ConstantWeight(self.id_weight, self.start_step)
        answer = partial(self.pipeline.answer, width=width, height=height, plan=plan)
        return with_identity(self.pipeline, requests, answer)
