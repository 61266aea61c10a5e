"""Parameters that every method over FLUX has."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal

from idbench.methods.common.flux_sampling import TimestepRounding
from idbench.methods.common.locations import digest, locate

Offload = Literal["none", "model", "group", "sequential"]
Quantization = Literal["none", "fp8", "int8", "nf4"]
Compile = Literal["none", "blocks", "full"]
NoiseDevice = Literal["cpu", "execution"]

SIZE_MULTIPLE = 16  # of width and height: 8 px per latent, 2 latents per token
MAX_T5_TOKENS = 512


@dataclass(frozen=True, kw_only=True)
class FluxConfig:
    """What a FLUX pipeline is told.

    Attributes:
        weights: Folder with everything under the names of the weights catalogue; the parameters
            that name single files win over it.
        model: FLUX.1-dev in diffusers' layout (default `flux-dev` under `weights`).
        transformer: Another transformer: a folder in diffusers' layout or a file in the original
            one, such as `flux1-krea-dev.safetensors`.
        width: In pixels, a multiple of 16; a request's own size wins.
        height: As `width`.
        num_inference_steps: Euler steps.
        guidance_scale: The distilled guidance.
        max_sequence_length: T5 tokens, 1 to 512; longer prompts are cut there.
        offload: What stays off the device: "model" (one component at a time on it), "group"
            (one block of the transformer at a time), "sequential" (one layer; slow).
        quantization: Of the transformer's weights: "fp8" stores them in eight bits and computes
            in `dtype`; "int8" and "nf4" need bitsandbytes and `model` or `transformer` as a folder.
        compile: "blocks" compiles the repeated blocks, "full" the whole transformer.
        noise_device: Where the starting noise is drawn. "cpu" is the same on every device;
            "execution" is what the official PuLID sampler does.
        timestep_rounding: See `denoise`.
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

    def files(self) -> dict[str, Path]:
        """The files and folders of the networks, by parameter.

        Raises:
            FileNotFoundError: If one is not there; the message says which parameter to set.
        """
        found = {"model": locate("model", self.model, self.weights, "flux-dev")}
        if self.transformer is not None:
            found["transformer"] = locate("transformer", self.transformer, None, "")
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
