"""Parameters of FlexID."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from idbench.methods.common.weight_sources import MissingWeightsError, Source
from idbench.methods.flexid.gating import Gate, Normalisation, Time
from idbench.methods.flexid.intent import IntentMode
from idbench.methods.flexid.lemmas import Lemmatizer
from idbench.methods.flexid.lexicon import CATEGORIES, Category, check_categories
from idbench.methods.flexid.residual import Delta, Norm
from idbench.methods.flexid.sources import SOURCES
from idbench.methods.pulid.config import PuLIDConfig

Switch = Literal["auto", "on", "off"]
Encoder = Literal["facet5", "clip_l14"]
Tokens = Literal["all", "prompt"]
Precision = Literal["float32", "bfloat16", "float16"]
SipState = Literal["facet5", "clip_l14", "off", "unavailable"]


@dataclass(frozen=True, kw_only=True)
class FlexIDConfig(PuLIDConfig):
    """What FlexID is told; sampler, `alpha_base` and `id_weight` are those of the paper.

    Attributes:
        sip: Semantic identity projector. "auto" uses it if its weights are there, else it is
            reported as unavailable in log, fingerprint and notes; "on" needs them.
        face_t5: `face_t5_encoder.pt` of FaceCLIP, if not in `weights`.
        sip_encoder: "facet5" is FaceCLIP's own tower, trained with the fuser. "clip_l14" is the
            one that the paper names; nobody published a projection for it.
        clip: Folder of CLIP ViT-L/14 for "clip_l14", if not in `weights`.
        visual_proj: Linear map from CLIP's patches to the fuser (safetensors), for "clip_l14".
        sip_delta: What the residual is, see `difference`.
        sip_norm: How large it is, see `scaled`.
        sip_tokens: "all" positions get it, as fuser and FLUX treat padding as text; "prompt"
            leaves the padding alone.
        sip_dtype: Of tower and fuser. The contrast is a small difference of large numbers.
        vfa: Visual feature anchor; off is w = 0.
        cag: Context-aware adaptive gating; off holds alpha at `alpha_base` and w at `id_weight`.
        alpha_base: Strength of the text residual (equation 1), 0.1 in the paper.
        id_weight: w_base, strength of the anchor (equation 2), 1 in the paper.
        eta_up: See `Gate`.
        eta_down: See `Gate`.
        kappa: Slope of both schedules, see `Gate`; 0 leaves the intent alone.
        schedule_time: `time` of `Gate`.
        schedule_norm: `norm` of `Gate`.
        intent_mode: "binary" as in the paper, or "graded", see `IntentParser`.
        force_intent: Overrides the parser; 0 leaves the schedules alone.
        categories: Those that count as an edit.
        lexicon: Another dictionary of intent (JSON).
        extra_keywords: More words by category.
        lemmatizer: See `base_forms`.
    """

    width: int = 1024
    height: int = 1024
    num_inference_steps: int = 25
    guidance_scale: float = 4.0
    max_sequence_length: int = 512
    sip: Switch = "auto"
    face_t5: Path | None = None
    sip_encoder: Encoder = "facet5"
    clip: Path | None = None
    visual_proj: Path | None = None
    sip_delta: Delta = "contrast"
    sip_norm: Norm = "sample"
    sip_tokens: Tokens = "all"
    sip_dtype: Precision = "float32"
    vfa: bool = True
    cag: bool = True
    alpha_base: float = 0.1
    eta_up: float = 0.5
    eta_down: float = 0.3
    kappa: float = 1.0
    schedule_time: Time = "step"
    schedule_norm: Normalisation = "mean"
    intent_mode: IntentMode = "binary"
    force_intent: float | None = None
    categories: tuple[Category, ...] = CATEGORIES
    lexicon: Path | None = None
    extra_keywords: Mapping[str, tuple[str, ...]] | None = None
    lemmatizer: Lemmatizer = "simplemma"

    def __post_init__(self) -> None:
        """Checks ranges and combinations."""
        PuLIDConfig.__post_init__(self)
        check_categories((*self.categories, *(self.extra_keywords or ())))
        if self.force_intent is not None and not 0 <= self.force_intent <= 1:
            raise ValueError(f"force_intent must be in [0, 1], got {self.force_intent}")
        if self.sip_encoder == "facet5" and (self.clip or self.visual_proj):
            raise ValueError("clip and visual_proj need sip_encoder='clip_l14', got 'facet5'")
        _ = self.gate

    @property
    def gate(self) -> Gate:
        """The constants of both equations; without gating, a constant schedule."""
        schedule = (self.kappa, self.schedule_time, self.schedule_norm)
        kappa, time, norm = schedule if self.cag else (0.0, "step", "mean")
        return Gate(
            alpha_base=self.alpha_base,
            w_base=self.id_weight,
            eta_up=self.eta_up,
            eta_down=self.eta_down,
            kappa=kappa,
            time=time,
            norm=norm,
        )

    @property
    def sources(self) -> Mapping[str, Source]:
        """Where the files come from, by the parameter that can name their place."""
        return {**super().sources, **SOURCES}

    @property
    def sip_state(self) -> SipState:
        """The encoder of the projector, or why there is none.

        Raises:
            MissingWeightsError: If its weights are asked for and absent.
        """
        return self.sip_encoder if self.sip_files() else self._without_sip

    def sip_files(self) -> dict[str, Path]:
        """The files of the projector; none where it is off or unavailable.

        Raises:
            MissingWeightsError: If they are asked for and absent.
        """
        if self.sip == "off":
            return {}
        keys = ("face_t5", "clip") if self.sip_encoder == "clip_l14" else ("face_t5",)
        try:
            found = {key: self.locate(key) for key in keys}
        except MissingWeightsError:
            if self.sip == "on" or self.face_t5 or self.clip:
                raise
            return {}
        if self.visual_proj is not None:
            if not self.visual_proj.is_file():
                raise FileNotFoundError(f"there is no visual_proj {self.visual_proj}")
            found["visual_proj"] = self.visual_proj
        return found

    @property
    def _without_sip(self) -> SipState:
        return "off" if self.sip == "off" else "unavailable"

    def files(self) -> dict[str, Path]:
        """The files and folders that are read, each under a name of its own."""
        found = {**PuLIDConfig.files(self), **self.sip_files()}
        if self.lexicon is not None:
            if not self.lexicon.is_file():
                raise FileNotFoundError(f"there is no lexicon {self.lexicon}")
            found["lexicon"] = self.lexicon
        return found
