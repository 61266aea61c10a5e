"""Parameters that every method over FLUX has."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal

from idbench.methods.common.flux_sampling import TimestepRounding
from idbench.methods.common.locations import digest, locate
from idbench.methods.common.weight_sources import FLUX_DEV, Source

Offload = Literal["none", "model", "group"]
Quantization = Literal["none", "fp8", "int8", "nf4"]
Compile = Literal["none", "blocks", "full"]
NoiseDevice = Literal["cpu", "execution"]

SIZE_MULTIPLE = 16  # of width and height: 8 px per latent, 2 latents per token
MAX_T5_TOKENS = 512


@dataclass(frozen=True, kw_only=True)
class FluxConfig:
    """What a FLUX pipeline is told.

    Attributes:
        weights: Folder of the files; the application data folder of this user if None. `idbench
            method check` says what is absent and how to get it.
        model: FLUX.1-dev in diffusers' layout, if not in `weights`.
        transformer: Another transformer: a folder in diffusers' layout or a file in the original
            one, such as `flux1-krea-dev.safetensors`.
        width: In pixels, a multiple of 16; a request's own size wins.
        height: As `width`.
        num_inference_steps: Euler steps.
        guidance_scale: The distilled guidance.
        max_sequence_length: T5 tokens, 1 to 512; longer prompts are cut there.
        offload: What stays off the device: "model" (one component at a time on it), "group"
            (one block of it at a time).
        quantization: Of the transformer's weights: "fp8" stores them in eight bits and computes
            in `dtype`; "int8" and "nf4" need bitsandbytes and `model` or `transformer` as a folder.
        compile: "blocks" compiles the repeated blocks, "full" the whole transformer.
        noise_device: Where the starting noise is drawn. "cpu" is the same on every device;
            "execution" is what the official PuLID sampler does.
        timestep_rounding: See `denoise`.
        exact_batches: Send each image through the networks by itself, so that it does not depend
            on its neighbours to the last bit. Off, all images of one size share a forward, which
            is faster where one image does not fill the device, and moves pixels by rounding.
        device: torch device.
        dtype: Of the networks; the papers use bfloat16.
    """

    weights: Path | None = None
    model: Path | None = None
    transformer: Path | None = None
    width: int = 1024
    height: int = 1024
    num_inference_steps: int = 28
    guidance_scale: float = 3.5
    max_sequence_length: int = 512
    offload: Offload = "none"
    quantization: Quantization = "none"
    compile: Compile = "none"
    noise_device: NoiseDevice = "cpu"
    timestep_rounding: TimestepRounding = "once"
    exact_batches: bool = True
    device: str = "cpu"
    dtype: str = "float32"

    # parameters that say where things are or run, and move no pixel by themselves; the digests of
    # the files and the device of the run are recorded elsewhere
    PLACES: ClassVar[frozenset[str]] = frozenset({"weights", "device", "offload"})

    def __post_init__(self) -> None:
        """Checks ranges."""
        check_size(self.width, self.height)
        if self.num_inference_steps < 1:
            raise ValueError(
                f"num_inference_steps must be at least 1, got {self.num_inference_steps}"
            )
        if not 1 <= self.max_sequence_length <= MAX_T5_TOKENS:
            raise ValueError(
                f"max_sequence_length must be in [1, {MAX_T5_TOKENS}], "
                f"got {self.max_sequence_length}"
            )

    @property
    def sources(self) -> Mapping[str, Source]:
        """Where the files come from, by the parameter that can name their place."""
        return {"model": FLUX_DEV}

    def locate(self, key: str) -> Path:
        """The file or folder that parameter `key` names, or its place in `weights`.

        Raises:
            MissingWeightsError: If it is not there; the message says how to get it.
        """
        sources = self.sources
        return locate(key, getattr(self, key), self.weights, sources[key], sources)

    def files(self) -> dict[str, Path]:
        """The files and folders that are read, each under a name of its own.

        Raises:
            MissingWeightsError: If one is not there; the message says how to get it.
        """
        found = {"model": self.locate("model")}
        if self.transformer is not None:
            if not self.transformer.exists():
                raise FileNotFoundError(f"there is no transformer {self.transformer}")
            found["transformer"] = self.transformer
        return found

    def parameters(self) -> dict[str, object]:
        """The parameters that can move a pixel; files appear by digest in `digests`."""
        return {
            field.name: value
            for field in fields(self)
            if field.name not in self.PLACES
            and not isinstance(value := getattr(self, field.name), Path)
            and value is not None
        }

    def digests(self) -> Mapping[str, str]:
        """SHA-256 of the files of `files`."""
        return {name: digest(path) for name, path in self.files().items()}


def check_size(width: int, height: int) -> None:
    """Refuses a size that latents and patches do not divide.

    Raises:
        ValueError: Naming the size and the rule.
    """
    if width < SIZE_MULTIPLE or height < SIZE_MULTIPLE or width % 16 or height % 16:
        raise ValueError(
            f"width and height must be positive multiples of {SIZE_MULTIPLE}, got {width}x{height}"
        )
