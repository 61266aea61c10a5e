"""What identity costs per denoising step of FLUX, beside plain FLUX in the same process.

All variants run on one transformer with random weights, turn by turn, through the loop that the
methods use: a step is one forward and one scheduler step. "plain FLUX" has no hooks; compiled, it
has hooks without an identity, which leave nothing in the graph.
"""

import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from torch import nn
from torch._dynamo.exc import BackendCompilerFailed
from torch.utils.flop_counter import FlopCounterMode

from idbench.methods.common.flux_sampling import Branch, denoise, euler_scheduler
from idbench.methods.common.random_flux import random_flux
from idbench.methods.common.timing import (
    WARM_UP,
    Size,
    Timing,
    device_name,
    time_in_turns,
    timing_rows,
)
from idbench.methods.pulid.attention import PerceiverAttentionCA
from idbench.methods.pulid.config import PuLIDConfig
from idbench.methods.pulid.injection import IDInjector, Integration, injected_blocks
from idbench.methods.pulid.pipeline import ConstantWeight, IdentityPlan

TINY_SIDE, TINY_TEXT = 128, 128  # pixels and T5 tokens of the tiny size
IDENTITY_TOKENS = 32
TOKEN_WIDTH = {"full": 2048, "tiny": 128}
SAMPLER_STEPS = 20  # through which the timed steps go
TARGET = 0.05  # of the time of a step that the injection may add

Step = Callable[[], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """A method to time: its name in the table, its plan over the steps, and its integration."""

    name: str
    plan: IdentityPlan
    integration: Integration | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Compiled:
    """What compiling block by block did: seconds it took, graphs, breaks in them, and timings."""

    seconds: float
    graphs: int
    breaks: int
    timings: Sequence[Timing]


class Bench:
    """One transformer that takes a step with or without identity.

    Args:
        size: "full" has the shapes of the released files.
        device: A torch device.
        dtype: Of all networks.
        width: Of the image in pixels, at full size.
        height: As `width`.
        text_tokens: T5 tokens, at full size.
    """

    def __init__(
        self,
        size: Size,
        device: str,
        dtype: torch.dtype,
        *,
        width: int,
        height: int,
        text_tokens: int,
    ) -> None:
        """Makes the networks and what goes into them."""
        if size == "tiny":
            width, height, text_tokens = TINY_SIDE, TINY_SIDE, TINY_TEXT
        self.size, self.width, self.height = size, width, height
        self.transformer = random_flux(size, device, dtype)
        with torch.device(device):
            self.injector = _injector(self.transformer, size).to(dtype).requires_grad_(False)
            config = self.transformer.config
            rows, columns = height // 16, width // 16
            self.latents = torch.randn(1, rows * columns, config.in_channels, dtype=dtype)
            self.text = torch.randn(1, text_tokens, config.joint_attention_dim, dtype=dtype)
            self.pooled = torch.randn(1, config.pooled_projection_dim, dtype=dtype)
            tokens = torch.randn(1, IDENTITY_TOKENS, TOKEN_WIDTH[size], dtype=dtype)
        positions = FluxPipeline._prepare_latent_image_ids(1, rows, columns, device, dtype)
        self.image_ids = positions
        self.identity = self.injector.prepare(tokens)
        self._attached = False

    def attach(self, wanted: bool) -> None:
        """Puts the hooks on the transformer, or takes them off."""
        if wanted and not self._attached:
            self.injector.attach(self.transformer)
        elif self._attached and not wanted:
            self.injector.remove()
        self._attached = wanted

    def plain(self, *, hooks: bool = False) -> Step:
        """FLUX without identity, or with hooks that have none."""

        def before(step: int) -> None:
            self.injector.use(None)

        return self._step(before, hooks)

    def with_identity(self, variant: Variant) -> Step:
        """A method, which goes through the steps of a sampler in turn."""

        def before(step: int) -> None:
            self.injector.integration = variant.integration
            variant.plan.before(self.injector, self.identity, "positive", step, SAMPLER_STEPS)

        return self._step(before, hooks=True)

    def _step(self, before: Callable[[int], None], hooks: bool) -> Step:
        taken = 0

        @torch.no_grad()
        def take() -> None:
            nonlocal taken
            number, taken = taken % SAMPLER_STEPS, taken + 1
            self.attach(hooks)
            denoise(
                self.transformer,
                euler_scheduler(1, self.latents.shape[1]),
                self.latents,
                image_ids=self.image_ids,
                positive=Branch(
                    prompt_embeds=self.text,
                    pooled_prompt_embeds=self.pooled,
                    before=lambda step: before(number),
                ),
                guidance_scale=3.5,
            )
            self.injector.use(None)

        return take

    def compiled(self, variants: Sequence[Variant], *, steps: int, backend: str) -> Compiled:
        """Compiles the repeated blocks with the hooks on them and times plain FLUX and variants.

        Raises:
            BackendCompilerFailed: If the backend cannot compile here.
        """
        torch._dynamo.reset()
        counters = torch._dynamo.utils.counters
        counters.clear()
        self.attach(True)
        self.transformer.compile_repeated_blocks(fullgraph=True, backend=backend)
        takes = [
            ("plain FLUX, compiled", self.plain(hooks=True)),
            *((f"{v.name}, compiled", self.with_identity(v)) for v in variants),
        ]
        try:
            start = time.perf_counter()
            for _, take in takes:
                for _ in range(WARM_UP):  # a first step, and the kinds of step that follow it
                    take()
            seconds = time.perf_counter() - start
            timings = time_in_turns(takes, steps=steps, device=str(self.latents.device))
            breaks = sum(counters["graph_break"].values())
            graphs = counters["stats"]["unique_graphs"]
        finally:
            for module in self.transformer.modules():
                module._compiled_call_impl = None
            torch._dynamo.reset()
        return Compiled(seconds=seconds, graphs=graphs, breaks=breaks, timings=timings)

    def matrix_products(self, variant: Variant) -> tuple[int, int]:
        """Floating point operations in the matrix products of a step: plain, with identity.

        Counted on shapes alone, without computing anything.
        """
        with torch.device("meta"):
            transformer = FluxTransformer2DModel.from_config(self.transformer.config)
            injector = _injector(transformer, self.size)
            injector.integration = variant.integration
            tokens = torch.empty(self.identity.tokens.shape)
            config = transformer.config
            inputs = {
                "hidden_states": torch.empty(self.latents.shape),
                "encoder_hidden_states": torch.empty(self.text.shape),
                "pooled_projections": torch.empty(1, config.pooled_projection_dim),
                "timestep": torch.empty(1),
                "guidance": torch.empty(1),
                "img_ids": torch.empty(self.image_ids.shape),
                "txt_ids": torch.empty(self.text.shape[1], 3),
            }
            plain = _counted(transformer, inputs)
            injector.attach(transformer)
            identity = injector.prepare(tokens)
            variant.plan.before(injector, identity, "positive", 0, SAMPLER_STEPS)
            return plain, _counted(transformer, inputs)


def _injector(transformer: FluxTransformer2DModel, size: Size) -> IDInjector:
    config = transformer.config
    width = config.num_attention_heads * config.attention_head_dim
    heads, kv_dim = 16 if size == "full" else 1, TOKEN_WIDTH[size]
    blocks = injected_blocks(transformer)
    return IDInjector([PerceiverAttentionCA(dim=width, heads=heads, kv_dim=kv_dim) for _ in blocks])


def _counted(transformer: nn.Module, inputs: Mapping[str, torch.Tensor]) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        transformer(**inputs, return_dict=False)
    return int(counter.get_total_flops())


def _megabytes(module: nn.Module) -> float:
    return sum(p.numel() * p.element_size() for p in module.parameters()) / 2**20


def _process_peak() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def report(
    name: str, bench: Bench, variants: Sequence[Variant], *, steps: int, backend: str
) -> str:
    """Times plain FLUX and some variants, as they are and compiled; a table and what it says.

    Raises:
        ValueError: If `steps` is below 1.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    device, dtype = str(bench.latents.device), str(bench.latents.dtype).removeprefix("torch.")
    eager = time_in_turns(
        [
            ("plain FLUX", bench.plain()),
            ("hooks without identity", bench.plain(hooks=True)),
            *((variant.name, bench.with_identity(variant)) for variant in variants),
        ],
        steps=steps,
        device=device,
    )
    lines = [
        f"{name}: FLUX with {len(bench.injector.pulid_ca)} identity modules, {bench.width} x "
        f"{bench.height} px, {bench.text.shape[1]} text tokens, {dtype} on {device_name(device)}, "
        f"random weights, median of {steps} steps; percentages are over plain FLUX",
        *timing_rows(eager, eager[0]),
    ]
    try:
        compiled = bench.compiled(variants, steps=steps, backend=backend)
    except BackendCompilerFailed as error:
        reason = str(error).strip().splitlines()[0]
        lines.append(f"compiled: not measured, {backend} does not work here: {reason}")
    else:
        plain = compiled.timings[0]
        lines += timing_rows(compiled.timings, plain)
        lines.append(
            f"compiled block by block in {compiled.seconds:.0f} s: {compiled.graphs} graphs, "
            f"{compiled.breaks} graph breaks; compiling changes a step by "
            f"{100 * plain.overhead(eager[0]):+.1f} % without and "
            f"{100 * compiled.timings[1].overhead(eager[2]):+.1f} % with identity"
        )
    products, with_identity = bench.matrix_products(variants[0])
    lines += [
        f"{variants[0].name} over plain FLUX: {100 * eager[2].overhead(eager[0]):+.2f} % of a step "
        f"(target at full size: at most {100 * TARGET:.0f} %); in matrix products "
        f"{100 * (with_identity / products - 1):+.2f} % of {products / 1e12:.4g} TFLOP",
        f"weights: transformer {_megabytes(bench.transformer):,.0f} MiB, identity modules "
        f"{_megabytes(bench.injector):,.0f} MiB"
        + (
            "" if device.startswith("cuda") else f"; peak of the process {_process_peak():,.0f} MiB"
        ),
    ]
    return "\n".join(lines)


def make_bench(config: PuLIDConfig, size: Size, device: str) -> Bench:
    """The transformer at a method's default size: bfloat16 on a GPU, float32 on a CPU."""
    return Bench(
        size,
        device,
        torch.bfloat16 if device.startswith("cuda") else torch.float32,
        width=config.width,
        height=config.height,
        text_tokens=config.max_sequence_length,
    )


def measure(name: str, *, size: Size, device: str, steps: int, backend: str = "inductor") -> str:
    """Seconds per step of plain FLUX and PuLID-FLUX, overhead, memory and effect of compiling.

    Raises:
        ValueError: If `steps` is below 1.
    """
    bench = make_bench(PuLIDConfig(), size, device)
    variants = [Variant(name="PuLID-FLUX", plan=ConstantWeight(1.0))]
    return report(name, bench, variants, steps=steps, backend=backend)
