"""Where the time of EditedID goes: stages, the fast path, one face and several at once."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn

from idbench.methods.editedid.codec import decode
from idbench.methods.editedid.config import EditedIDConfig
from idbench.methods.editedid.gate import ROLES, TARGET, TokenSwap
from idbench.methods.editedid.pipeline import EditedIDPipeline, Encoded
from idbench.methods.editedid.scheduler import HybridDDIMDPMScheduler
from idbench.methods.editedid.word_alignment import MAX_TOKENS

STAGES = ("inversion", "null-text", "reconstruction", "decoding")

# Architecture of Stable Diffusion 1.4, and a small one with the same blocks.
_FULL_UNET: dict[str, Any] = {
    "sample_size": 64,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "block_out_channels": (320, 640, 1280, 1280),
}
_TINY_UNET: dict[str, Any] = {
    "sample_size": 8,
    "cross_attention_dim": 32,
    "attention_head_dim": 2,
    "block_out_channels": (16, 16, 32, 32),
    "layers_per_block": 1,
    "norm_num_groups": 4,
}
_FULL_VAE, _TINY_VAE = (128, 256, 512, 512), (8, 8, 16, 16)


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Median seconds of each stage for a batch of faces.

    Attributes:
        faces: Faces in the batch.
        null_mode: "optimised" or "prompt".
        seconds: By stage, in the order of `STAGES`.
        peak_mib: Most device memory in use, MiB; None on a CPU.
    """

    faces: int
    null_mode: Literal["optimised", "prompt"]
    seconds: dict[str, float]
    peak_mib: float | None

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())


def random_pipeline(size: str, *, device: str = "cpu", dtype: torch.dtype) -> EditedIDPipeline:
    """A pipeline with random weights and without a text encoder.

    Args:
        size: "full" for Stable Diffusion 1.4's architecture, "tiny" for a few narrow blocks.
        device: Of the networks.
        dtype: Likewise.
    """
    torch.manual_seed(0)
    unet = _FULL_UNET if size == "full" else _TINY_UNET
    channels = _FULL_VAE if size == "full" else _TINY_VAE
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=2 if size == "full" else 1,
        norm_num_groups=unet.get("norm_num_groups", 32),
    )
    # torch's own `to`: that of diffusers warns of parts to keep in float32 where there are none.
    return EditedIDPipeline(
        vae=nn.Module.to(vae, device, dtype),
        text_encoder=None,
        tokenizer=None,
        unet=nn.Module.to(UNet2DConditionModel(**unet), device, dtype),
        scheduler=HybridDDIMDPMScheduler(),
    )


def random_batch(pipeline: EditedIDPipeline, faces: int) -> Encoded:
    """Encoded pairs of noise, each with a face and an element across it."""
    generator = torch.Generator().manual_seed(faces)
    size, device = int(pipeline.unet.config["sample_size"]), pipeline.unet.device
    width = int(pipeline.unet.config["cross_attention_dim"])

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    mask_o = torch.zeros(faces, 1, size, size)
    mask_o[..., size // 4 : -size // 4, size // 4 : -size // 4] = 1.0
    mask_i = torch.zeros_like(mask_o)
    mask_i[..., size // 3 : size // 2, size // 4 : -size // 4] = 1.0
    identity = torch.arange(MAX_TOKENS)
    swap = TokenSwap((5,), (7,), identity, identity, torch.ones(1024, MAX_TOKENS))
    return Encoded(
        noise(faces, TARGET, 4, size, size),
        noise(faces, ROLES, MAX_TOKENS, width),
        noise(MAX_TOKENS, width),
        [swap] * faces,
        mask_o,
        mask_i,
    )


def time_stages(
    pipeline: EditedIDPipeline,
    config: EditedIDConfig,
    faces: int,
    *,
    repeats: int = 3,
    warm_up: int = 1,
) -> Timing:
    """Seconds of each stage, the median of `repeats` after `warm_up` runs that do not count."""
    device = pipeline.unet.device
    encoded = random_batch(pipeline, faces)
    runs: list[dict[str, float]] = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for _ in range(warm_up + repeats):
        runs.append(_timed_run(pipeline, config, encoded, device))
    kept = runs[warm_up:]
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
    return Timing(
        faces=faces,
        null_mode=config.null_mode,
        seconds={stage: statistics.median(run[stage] for run in kept) for stage in STAGES},
        peak_mib=peak,
    )


def _timed_run(
    pipeline: EditedIDPipeline, config: EditedIDConfig, encoded: Encoded, device: torch.device
) -> dict[str, float]:
    scheduler = pipeline.scheduler.configured(config)
    seconds: dict[str, float] = {}

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        _synchronise(device)
        start = time.perf_counter()
        result = work()
        _synchronise(device)
        seconds[stage] = time.perf_counter() - start
        return result

    inversion = timed("inversion", lambda: pipeline.align(encoded, scheduler, config))
    null_text = timed(
        "null-text", lambda: pipeline.disentangle(encoded, inversion, scheduler, config)
    )
    entangled = timed(
        "reconstruction",
        lambda: pipeline.entangle(encoded, inversion, null_text, scheduler, config),
    )
    timed("decoding", lambda: decode(pipeline.vae, entangled.states[-1][:, TARGET]))
    return seconds


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def breakdown(
    pipeline: EditedIDPipeline,
    config: EditedIDConfig,
    faces: Sequence[int] = (1, 3),
    *,
    repeats: int = 3,
    warm_up: int = 1,
) -> list[Timing]:
    """Timings of null-text optimisation and of the fast path, for each number of faces.

    Thresholds of early stopping are set to zero, so that every inner step is taken: random weights
    say nothing about when real ones would stop.
    """
    modes: tuple[Literal["optimised", "prompt"], ...] = ("optimised", "prompt")
    return [
        time_stages(
            pipeline,
            replace(config, null_mode=mode, null_stop=0.0, null_stop_growth=0.0),
            count,
            repeats=repeats,
            warm_up=warm_up,
        )
        for mode in modes
        for count in faces
    ]


def table(timings: Sequence[Timing]) -> str:
    """Timings as text, with the cost of several faces over that of one."""
    head = f"{'null text':<11}{'faces':>6}" + "".join(f"{stage + ' s':>17}" for stage in STAGES)
    lines = [head + f"{'total s':>10}{'vs 1 face':>11}{'peak MiB':>10}"]
    single = {timing.null_mode: timing.total for timing in timings if timing.faces == 1}
    for timing in timings:
        cells = "".join(f"{timing.seconds[stage]:>17.3f}" for stage in STAGES)
        one = single.get(timing.null_mode)
        ratio = "" if one is None else f"{timing.total / one:.2f}"
        peak = "" if timing.peak_mib is None else f"{timing.peak_mib:.0f}"
        lines.append(
            f"{timing.null_mode:<11}{timing.faces:>6}{cells}{timing.total:>10.3f}"
            f"{ratio:>11}{peak:>10}"
        )
    return "\n".join(lines)


def measure(
    name: str, *, size: str, device: str, steps: int, repeats: int = 3, warm_up: int = 1
) -> str:
    """What `idbench perf method editedid` prints: stages, fast path, one and three faces.

    Args:
        name: Ignored; the method is EditedID.
        size: "full" or "tiny", random weights.
        device: A torch device.
        steps: N, diffusion steps of inversion and of reconstruction.
        repeats: Runs that the medians stand on.
        warm_up: Runs before them.
    """
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    pipeline = random_pipeline(size, device=device, dtype=dtype)
    config = EditedIDConfig(num_inference_steps=steps)
    timings = breakdown(pipeline, config, repeats=repeats, warm_up=warm_up)
    optimised, fast = (
        next(t for t in timings if t.null_mode == mode and t.faces == 1)
        for mode in ("optimised", "prompt")
    )
    share = optimised.seconds["null-text"] / optimised.total
    return (
        f"EditedID, {size} architecture, random weights, {steps} steps, {device}, "
        f"{str(dtype).removeprefix('torch.')}\n{table(timings)}\n"
        f"null-text optimisation is {share:.0%} of one face; the fast path is "
        f"{optimised.total / fast.total:.1f} times faster"
    )
