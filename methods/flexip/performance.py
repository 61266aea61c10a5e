"""What FlexIP costs per denoising step, beside plain Stable Diffusion 1.5 and IP-Adapter.

All variants run on one UNet with random weights, turn by turn. A step is one forward with
classifier-free guidance and one scheduler step. diffusers' IP-Adapter Plus has one adapter of 16
tokens; its two-adapter form, with as many tokens as FlexIP has, is what FlexIP is measured by.
"""

from collections.abc import Callable, Mapping

import torch
from diffusers.models.attention_processor import AttnProcessor2_0, IPAdapterAttnProcessor2_0
from torch import Tensor

from idbench.methods.common.sd15 import ddim_scheduler
from idbench.methods.common.timing import (
    Size,
    device_name,
    random_unet,
    time_in_turns,
    timing_rows,
)
from idbench.methods.flexip.attention import GatedContext, GatedCrossAttention, GatedKeyValues
from idbench.methods.flexip.gate import Gates
from idbench.methods.flexip.injection import cross_attentions, project_layers

TEXT_TOKENS = 77
PRESERVATION_TOKENS = 17
IP_ADAPTER_PLUS_TOKENS = 16
IMAGE_SIZE = {"full": 512, "tiny": 64}
GUIDANCE_SCALE = 7.5
BATCH = 2  # both halves of the guidance

Step = Callable[[], None]


class Bench:
    """One UNet that takes a step with the attention of each variant."""

    def __init__(self, size: Size, device: str, dtype: torch.dtype) -> None:
        """Makes the UNet, the sampler and the text."""
        self.unet = random_unet(size, device, dtype)
        self.attentions = cross_attentions(self.unet)
        self.width = int(self.unet.config["cross_attention_dim"])
        self.side = IMAGE_SIZE[size]
        self.scheduler = ddim_scheduler()
        self.scheduler.set_timesteps(50, device=device)
        channels = self.unet.config["in_channels"]
        self.latents = torch.randn(1, channels, self.side // 8, self.side // 8, device=device)
        self.text = self.tokens(TEXT_TOKENS)

    def tokens(self, count: int) -> Tensor:
        """Random tokens for both halves of the guidance."""
        return torch.randn(
            BATCH, count, self.width, device=self.latents.device, dtype=self.unet.dtype
        )

    def plain(self) -> Step:
        """Stable Diffusion 1.5 as it is."""
        return self._step(dict.fromkeys(self.attentions, AttnProcessor2_0()), self.text)

    def ip_adapter(self, *counts: int) -> Step:
        """IP-Adapter of diffusers with an adapter for each count of tokens."""
        processors = {}
        for path, attn in self.attentions.items():
            hidden_size, width = attn.to_k.weight.shape
            processor = IPAdapterAttnProcessor2_0(
                hidden_size, width, num_tokens=counts, scale=[1.0 / len(counts)] * len(counts)
            )
            processors[path] = processor.to(self.latents.device, self.unet.dtype)
        return self._step(processors, (self.text, [self.tokens(count) for count in counts]))

    def flexip(self, gamma: float, *, cached: bool = True) -> Step:
        """FlexIP's attention, with keys and values made ahead of the steps or in every step."""
        processors = {}
        for path, attn in self.attentions.items():
            hidden_size, width = attn.to_k.weight.shape
            key_values = GatedKeyValues(width, hidden_size)
            key_values.to(self.latents.device, self.unet.dtype).requires_grad_(False)
            processors[path] = GatedCrossAttention(path, key_values)
        context = GatedContext(
            self.text,
            self.tokens(PRESERVATION_TOKENS),
            self.tokens(TEXT_TOKENS),
            Gates(gamma=gamma).of_layers(tuple(self.attentions)),
            {},
        )
        self._use(processors)
        if cached:
            with torch.no_grad():
                context = context._replace(projections=project_layers(self.unet, context))
        return self._step(processors, context)

    def _step(self, processors: Mapping[str, object], context: object) -> Step:
        @torch.no_grad()
        def take() -> None:
            self._use(processors)
            timestep = self.scheduler.timesteps[0]
            both = torch.cat([self.latents] * BATCH).to(self.unet.dtype)
            noise = self.unet(both, timestep, context, return_dict=False)[0].float()
            without, with_condition = noise.chunk(2)
            guided = without + GUIDANCE_SCALE * (with_condition - without)
            self.scheduler.step(guided, timestep, self.latents, return_dict=False)

        return take

    def _use(self, processors: Mapping[str, object]) -> None:
        for path, attn in self.attentions.items():
            if attn.processor is not processors[path]:
                attn.set_processor(processors[path])


def measure(name: str, *, size: Size, device: str, steps: int) -> str:
    """Seconds per step of all variants at one image per batch, as a table.

    float16 on a GPU and float32 on a CPU; 512 x 512 pixels at full size.

    Raises:
        ValueError: If `steps` is below 1.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    dtype = torch.float16 if device.startswith("cuda") else torch.float32
    bench = Bench(size, device, dtype)
    two_adapters = f"IP-Adapter, {PRESERVATION_TOKENS} + {TEXT_TOKENS} tokens"
    variants = [
        ("plain SD 1.5", bench.plain()),
        ("IP-Adapter Plus, 16 tokens", bench.ip_adapter(IP_ADAPTER_PLUS_TOKENS)),
        (two_adapters, bench.ip_adapter(PRESERVATION_TOKENS, TEXT_TOKENS)),
        ("FlexIP, gamma 0.5", bench.flexip(0.5)),
        ("FlexIP, gamma 1", bench.flexip(1.0)),
        ("FlexIP, nothing cached", bench.flexip(0.5, cached=False)),
    ]
    timings = time_in_turns(variants, steps=steps, device=device)
    by_name = {timing.variant: timing for timing in timings}
    against = by_name["FlexIP, gamma 0.5"].overhead(by_name[two_adapters])
    return "\n".join(
        [
            f"{name}: UNet of {bench.side // 8} x {bench.side // 8} latents ({bench.side} px), "
            f"{str(dtype).removeprefix('torch.')} on {device_name(device)}, random weights, "
            f"median of {steps} steps; percentages are over plain SD 1.5",
            *timing_rows(timings, timings[0]),
            f"FlexIP over the two-adapter IP-Adapter of diffusers: {100 * against:+.1f} %",
        ]
    )
