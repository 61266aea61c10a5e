"""Parameters of PuLID-FLUX."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from idbench.methods.common.flux_config import FluxConfig
from idbench.methods.common.weight_sources import (
    FLUX_DEV,
    MissingWeightsError,
    Source,
    how_to_get,
)
from idbench.methods.pulid.extraction import FaceSelect
from idbench.methods.pulid.sources import MEMBERS, SOURCES

# the official app's, for true classifier-free guidance
NEGATIVE_PROMPT = "bad quality, worst quality, text, signature, watermark, extra limbs"
ID_WEIGHT_RANGE = (0.0, 3.0)


@dataclass(frozen=True, kw_only=True)
class PuLIDConfig(FluxConfig):
    """What PuLID-FLUX is told; defaults are those of the official app_flux.py.

    Attributes:
        pulid: ID encoder and cross-attention modules (`pulid_flux_v0.9.1.safetensors`).
        eva: EVA-CLIP checkpoint (`EVA02_CLIP_L_336_psz14_s6B.pt`).
        antelopev2: Folder with `scrfd_10g_bnkps.onnx` and `glintr100.onnx`.
        facexlib: Folder with `detection_Resnet50_Final.pth` and `parsing_bisenet.pth`.
        id_weight: Factor on every update, 0 to 3.
        start_step: First step with identity; the authors advise 4 for photographs, 0 or 1 for
            stylised prompts.
        true_cfg_scale: Classifier-free guidance with its own unconditional identity; 1 is off.
            With it on, the authors advise `guidance_scale=1`.
        cfg_start_step: First step with a second pass.
        negative_prompt: Of the second pass.
        antialias: See `tower_input`.
        face_select: See `IDExtractor`.
    """

    pulid: Path | None = None
    eva: Path | None = None
    antelopev2: Path | None = None
    facexlib: Path | None = None
    width: int = 896
    height: int = 1152
    num_inference_steps: int = 28
    guidance_scale: float = 4.0
    max_sequence_length: int = 128
    id_weight: float = 1.0
    start_step: int = 0
    true_cfg_scale: float = 1.0
    cfg_start_step: int = 1
    negative_prompt: str = NEGATIVE_PROMPT
    antialias: bool = True
    face_select: FaceSelect = "official"

    def __post_init__(self) -> None:
        """Checks ranges."""
        FluxConfig.__post_init__(self)
        low, high = ID_WEIGHT_RANGE
        if not low <= self.id_weight <= high:
            raise ValueError(f"id_weight must be in [{low:g}, {high:g}], got {self.id_weight}")
        for name in ("start_step", "cfg_start_step"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")

    @property
    def sources(self) -> Mapping[str, Source]:
        """Where the files come from, by the parameter that can name their place."""
        return {"model": FLUX_DEV, **SOURCES}

    def files(self) -> dict[str, Path]:
        """The files and folders that are read, each under a name of its own.

        Raises:
            MissingWeightsError: If one is not there; the message says how to get it.
        """
        return {
            **FluxConfig.files(self),
            "pulid": self.locate("pulid"),
            **self.extraction_files(),
        }

    def extraction_files(self) -> dict[str, Path]:
        """The files of the networks that read the reference photo.

        Raises:
            MissingWeightsError: If one is not there.
        """
        found = {"eva": self.locate("eva")}
        for key, members in MEMBERS.items():
            folder = self.locate(key)
            for name, file in members.items():
                if not (folder / file).is_file():
                    sources = self.sources
                    raise MissingWeightsError(how_to_get(key, folder / file, sources[key], sources))
                found[name] = folder / file
        return found
