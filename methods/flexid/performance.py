"""What FlexID costs per denoising step, beside plain FLUX and PuLID-FLUX in the same process.

All variants run on one transformer with random weights, turn by turn. A step sets up the pass as
the sampler does, and runs it. The semantic identity projector runs once per image and is timed by
itself.
"""

from collections.abc import Callable

import numpy as np
import torch
from diffusers import FluxPipeline
from torch import Tensor

from idbench.methods.common.flux_sampling import Branch
from idbench.methods.common.random_flux import random_flux
from idbench.methods.common.timing import Size, Timing, device_name, time_in_turns, timing_rows
from idbench.methods.flexid.face_vit import FaceViT
from idbench.methods.flexid.fuser import TextFaceFuser
from idbench.methods.flexid.gating import Gate, weights
from idbench.methods.flexid.projector import FaceT5, SemanticIdentityProjector
from idbench.methods.flexid.stepping import StepText, StepWeights
from idbench.methods.pulid.attention import PerceiverAttentionCA
from idbench.methods.pulid.injection import IDInjector, injected_blocks
from idbench.methods.pulid.pipeline import ConstantWeight, IdentityPlan

IMAGE_SIZE = {"full": 1024, "tiny": 128}
TEXT_TOKENS = {"full": 512, "tiny": 128}
IDENTITY_TOKENS = (32, 2048)
SAMPLER_STEPS = 25  # the paper's; the share of an image that the projector takes is over these
VIT_WIDTH = 768

Step = Callable[[], None]


class Bench:
    """One transformer that takes a step of each method."""

    def __init__(self, size: Size, device: str, dtype: torch.dtype) -> None:
        """Makes transformer, injector and projector, and what goes into them."""
        self.transformer = random_flux(size, device, dtype)
        config = self.transformer.config
        self.width = config.num_attention_heads * config.attention_head_dim
        blocks = injected_blocks(self.transformer)
        heads = 16 if size == "full" else 1
        with torch.device(device):
            modules = [PerceiverAttentionCA(dim=self.width, heads=heads) for _ in blocks]
            self.injector = IDInjector(modules).to(dtype).requires_grad_(False)
            self.injector.attach(self.transformer)
            self.identity = self.injector.prepare(torch.randn(1, *IDENTITY_TOKENS))
            side = IMAGE_SIZE[size] // 16
            self.latents = torch.randn(1, side * side, config.in_channels, dtype=dtype)
            self.text = torch.randn(1, TEXT_TOKENS[size], config.joint_attention_dim, dtype=dtype)
            self.pooled = torch.randn(1, config.pooled_projection_dim, dtype=dtype)
            self.guidance = torch.full([1], 4.0)
            self.timestep = torch.ones(1, dtype=dtype)
            self.faces = torch.rand(1, 3, 512, 512)
        self.positions = FluxPipeline._prepare_latent_image_ids(1, side, side, device, dtype)
        self.projector = _projector(size, config.joint_attention_dim, device)

    def project(self) -> Tensor:
        """The residual of one image."""
        return self.projector(self.text, self.faces)

    def plain(self) -> Step:
        """FLUX without identity."""
        return self._step(Branch(prompt_embeds=self.text, pooled_prompt_embeds=self.pooled))

    def pulid(self) -> Step:
        """PuLID-FLUX at weight 1."""
        return self._with(ConstantWeight(1.0), self.text)

    def flexid(self) -> Step:
        """FlexID: weight and text of each step are its own."""
        alpha, w = (array[:, None] for array in weights(Gate(), SAMPLER_STEPS, 1.0))
        plan = StepWeights(np.ascontiguousarray(w), self.latents.device)
        return self._with(plan, StepText(self.text, self.project(), np.ascontiguousarray(alpha)))

    def _with(self, plan: IdentityPlan, text: Tensor | Callable[[int], Tensor]) -> Step:
        def before(step: int) -> None:
            plan.before(self.injector, self.identity, "positive", step, SAMPLER_STEPS)

        return self._step(
            Branch(prompt_embeds=text, pooled_prompt_embeds=self.pooled, before=before)
        )

    def _step(self, branch: Branch) -> Step:
        count = 0

        @torch.no_grad()
        def take() -> None:
            nonlocal count
            step, count = count % SAMPLER_STEPS, count + 1
            branch.before(step)
            prompt_embeds = branch.text(step)
            self.transformer(
                hidden_states=self.latents,
                timestep=self.timestep,
                guidance=self.guidance,
                pooled_projections=branch.pooled_prompt_embeds,
                encoder_hidden_states=prompt_embeds,
                txt_ids=prompt_embeds.new_zeros(prompt_embeds.shape[1], 3),
                img_ids=self.positions,
                return_dict=False,
            )
            self.injector.use(None)

        return take


def _projector(size: Size, dim: int, device: str) -> SemanticIdentityProjector:
    with torch.device(device):
        if size == "full":
            tower, fuser, vit_dim = FaceViT(), TextFaceFuser(), VIT_WIDTH
        else:
            vit_dim = 32
            tower = FaceViT(dim=vit_dim, depth=2, heads=8, mlp_width=64)
            fuser = TextFaceFuser(dim=dim, depth=2, fusion_dim=32, text_width=32, face_width=64)
        network = FaceT5(tower, fuser, vit_dim=vit_dim, dim=dim, length=TEXT_TOKENS[size])
    network = network.eval().requires_grad_(False)
    return SemanticIdentityProjector(network=network, face_tokens=network.face_tokens)


def measure(name: str, *, size: Size, device: str, steps: int) -> str:
    """Seconds per step of all variants at one image per batch, and of the projector, as a table.

    bfloat16 on a GPU and float32 on a CPU; 1024 x 1024 pixels at full size. The projector is in
    float32, as in the method.

    Raises:
        ValueError: If `steps` is below 1.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    bench = Bench(size, device, dtype)
    variants = [
        ("plain FLUX", bench.plain()),
        ("PuLID-FLUX", bench.pulid()),
        ("FlexID", bench.flexid()),
    ]
    timings = time_in_turns(variants, steps=steps, device=device)
    pulid, flexid = timings[1:]

    def once() -> None:
        bench.project()

    (projection,) = time_in_turns([("residual, per image", once)], steps=3, device=device)
    image = SAMPLER_STEPS * flexid.seconds
    return "\n".join(
        [
            f"{name}: FLUX of width {bench.width}, {IMAGE_SIZE[size]} px, "
            f"{str(dtype).removeprefix('torch.')} on {device_name(device)}, random weights, "
            f"median of {steps} steps; percentages are over plain FLUX",
            *timing_rows(timings, timings[0]),
            f"FlexID over PuLID-FLUX, per step: {100 * flexid.overhead(pulid):+.2f} %",
            _of_an_image(projection, image),
        ]
    )


def _of_an_image(projection: Timing, image: float) -> str:
    share = 100 * projection.seconds / image
    return (
        f"{projection.variant}: {1000 * projection.seconds:.2f} ms, {share:.2f} % of "
        f"{SAMPLER_STEPS} steps"
    )
