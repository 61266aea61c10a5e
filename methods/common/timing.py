"""Variants of one computation, timed turn by turn in one process.

Taking turns, the variants share whatever else the machine does.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn

from idbench.methods.common.tiny_sd15 import tiny_unet

Size = Literal["full", "tiny"]

WARM_UP = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Median seconds per step and most device memory in use, in MiB (None on a CPU)."""

    variant: str
    seconds: float
    peak_mib: float | None

    def overhead(self, base: "Timing") -> float:
        """Share of time on top of `base`, 0.1 for 10 %."""
        return self.seconds / base.seconds - 1.0


def random_unet(size: Size, device: str, dtype: torch.dtype) -> UNet2DConditionModel:
    """Stable Diffusion 1.5's UNet, or a tiny one, with random weights."""
    torch.manual_seed(0)
    if size == "tiny":
        unet = tiny_unet()
    else:
        with torch.device(device):  # 860 million numbers are drawn faster there
            unet = UNet2DConditionModel(
                sample_size=64, cross_attention_dim=768, attention_head_dim=8
            )
    # torch's own `to`: that of diffusers warns of parts to keep in float32 where there are none.
    placed: UNet2DConditionModel = nn.Module.to(unet, device, dtype)
    return placed.requires_grad_(False).train(False)


def time_in_turns(
    variants: Sequence[tuple[str, Callable[[], None]]], *, steps: int, device: str
) -> list[Timing]:
    """Times variants turn by turn, each `steps` times after a warm-up."""
    cuda = device.startswith("cuda")
    peaks: dict[str, float] = {}
    for name, take in variants:
        for _ in range(WARM_UP if cuda else 1):
            take()
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            take()
            torch.cuda.synchronize()
            peaks[name] = torch.cuda.max_memory_allocated() / 2**20
    seconds: dict[str, list[float]] = {name: [] for name, _ in variants}
    for _ in range(steps):
        for name, take in variants:
            if cuda:
                torch.cuda.synchronize()
            start = time.perf_counter()
            take()
            if cuda:
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
    return [
        Timing(variant=name, seconds=statistics.median(seconds[name]), peak_mib=peaks.get(name))
        for name, _ in variants
    ]


def timing_rows(timings: Sequence[Timing], base: Timing) -> list[str]:
    """A line for each variant: milliseconds, what it takes longer than `base`, memory."""
    rows = []
    for timing in timings:
        memory = "" if timing.peak_mib is None else f"  peak {timing.peak_mib:,.0f} MiB"
        over = "" if timing is base else f"  {100 * timing.overhead(base):+.1f} %"
        rows.append(f"{timing.variant:<26} {1000 * timing.seconds:9.2f} ms{over:>10}{memory}")
    return rows


def device_name(device: str) -> str:
    """What a report calls a torch device."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device
