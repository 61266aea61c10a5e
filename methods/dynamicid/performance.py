"""What identity costs per denoising step, beside plain Stable Diffusion 1.5 in the same process.

All variants run on one UNet with random weights, turn by turn, so that they share whatever else the
machine does. A step is one forward with classifier-free guidance and one scheduler step.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor

from idbench.methods.common.sd15 import ddim_scheduler
from idbench.methods.common.timing import (
    Size,
    device_name,
    random_unet,
    time_in_turns,
    timing_rows,
)
from idbench.methods.dynamicid.attention import LORA_RANK
from idbench.methods.dynamicid.control import SAAControl
from idbench.methods.dynamicid.injection import (
    attention_layers,
    install_saa,
    merge_lora,
    project_contexts,
)
from idbench.methods.dynamicid.layout import Layout, vertical_strips

TOKENS_PER_PERSON = 4
TEXT_TOKENS = 77
IMAGE_SIZE = {"full": 512, "tiny": 64}
WARM_UP = 3  # on a GPU, whose first steps choose kernels; one on a CPU


class Bench:
    """One UNet that takes a step with or without identity."""

    def __init__(self, size: Size, device: str, dtype: torch.dtype) -> None:
        """Makes the UNet and the processors of both kinds."""
        self.unet = random_unet(size, device, dtype)
        self.side = IMAGE_SIZE[size]
        self.layers = attention_layers(self.unet)
        install_saa(self.unet, rank=LORA_RANK if size == "full" else TOKENS_PER_PERSON)
        self.identity = {name: attn.processor for name, attn in self.layers.items()}
        merge_lora(self.unet)
        self.scheduler = ddim_scheduler()
        self.scheduler.set_timesteps(50, device=device)
        channels = self.unet.config["in_channels"]
        self.latents = torch.randn(1, channels, self.side // 8, self.side // 8, device=device)

    def _context(self, people: int) -> Tensor:
        tokens = TEXT_TOKENS + people * TOKENS_PER_PERSON
        width = self.unet.config["cross_attention_dim"]
        return torch.randn(2, tokens, width, device=self.latents.device, dtype=self.unet.dtype)

    def _control(self, people: int, context: Tensor) -> SAAControl:
        layout = None
        if people > 1:
            boxes = [vertical_strips(people)] * 2
            layout = Layout(boxes, height=self.side, width=self.side)
        control = SAAControl(
            num_people=people,
            tokens_per_person=TOKENS_PER_PERSON,
            layout=layout,
            layout_active=layout is not None,
        )
        return replace(control, projections=project_contexts(self.unet, context, control))

    def step(self, people: int, *, merged: bool = True) -> Callable[[], None]:
        """A function that takes one denoising step; 0 people is the plain base model."""
        if people:
            self._use(None)
        context = self._context(people)
        control = self._control(people, context) if people else None
        extra: dict[str, Any] = {"cross_attention_kwargs": {"saa": control}} if people else {}
        plain = AttnProcessor2_0()

        @torch.no_grad()
        def take() -> None:
            self._use(plain if not people else None, merged=merged)
            timestep = self.scheduler.timesteps[0]
            both = torch.cat([self.latents, self.latents]).to(self.unet.dtype)
            noise = self.unet(both, timestep, context, return_dict=False, **extra)[0].float()
            unconditional, conditional = noise.chunk(2)
            guided = unconditional + 5.0 * (conditional - unconditional)
            self.scheduler.step(guided, timestep, self.latents, return_dict=False)

        return take

    def _use(self, processor: AttnProcessor2_0 | None, *, merged: bool = True) -> None:
        for name, attn in self.layers.items():
            chosen = self.identity[name] if processor is None else processor
            if attn.processor is not chosen:
                attn.set_processor(chosen)
            if processor is None:
                chosen.merged = merged


def measure(name: str, *, size: Size, device: str, steps: int) -> str:
    """Seconds per step with no, 1, 2 and 3 people at one image per batch, as a table.

    float16 on a GPU and float32 on a CPU; 512 x 512 pixels at full size. On a GPU the base model
    and one person are also timed compiled.

    Raises:
        ValueError: If `steps` is below 1.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    cuda = device.startswith("cuda")
    dtype = torch.float16 if cuda else torch.float32
    bench = Bench(size, device, dtype)
    variants = [("plain SD 1.5", bench.step(0))]
    variants += [
        (f"{people} {'person' if people == 1 else 'people'}", bench.step(people))
        for people in (1, 2, 3)
    ]
    variants.append(("1 person, LoRA not merged", bench.step(1, merged=False)))
    timings = time_in_turns(variants, steps=steps, device=device)
    lines = [
        f"{name}: UNet of {bench.side // 8} x {bench.side // 8} latents "
        f"({bench.side} px), {str(dtype).removeprefix('torch.')} on {device_name(device)}, "
        f"random weights, median of {steps} steps",
        *timing_rows(timings, timings[0]),
    ]
    if cuda:
        lines += _compiled(size, device, dtype, steps)
    return "\n".join(lines)


def _compiled(size: Size, device: str, dtype: torch.dtype, steps: int) -> list[str]:
    timings = []
    for label, people in (("plain SD 1.5, compiled", 0), ("1 person, compiled", 1)):
        bench = Bench(size, device, dtype)  # its own, so that no guard meets the other variant
        take = bench.step(people)
        bench.unet.compile(fullgraph=True)
        timings += time_in_turns([(label, take)], steps=steps, device=device)
    return timing_rows(timings, timings[0])
