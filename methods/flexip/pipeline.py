"""FlexIP's pipeline: subjects, prompts and gammas to images, as the paper's inference goes.

References become features, features and text become P and S, noise becomes latents by DDIM with
classifier-free guidance through gated cross-attention, latents become images.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from PIL import Image
from torch import Tensor

from idbench.methods.common.latent_sizes import check_size
from idbench.methods.common.prompt_encoder import PromptEncoder
from idbench.methods.common.sd15 import (
    ddim_scheduler,
    decode_latents,
    initial_latents,
)
from idbench.methods.flexip.adapter import FlexIPAdapter
from idbench.methods.flexip.conditions import Condition, condition
from idbench.methods.flexip.config import FlexIPConfig
from idbench.methods.flexip.fitting import check_belongs
from idbench.methods.flexip.gate import Gates, check_gamma
from idbench.methods.flexip.injection import cross_attentions, inject, project_layers
from idbench.methods.flexip.references import Features, ReferenceEncoder, Subject


@dataclass(frozen=True, kw_only=True, slots=True)
class FlexIPOutput:
    """Images with the latents they come from, (batch, 4, h / 8, w / 8) in float32."""

    images: list[Image.Image]
    latents: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class GridCell:
    """One image of a grid, and which prompt, subject and gamma it shows, by their indices."""

    prompt: int
    subject: int
    gamma: float
    seed: int
    image: Image.Image


class FlexIPPipeline:
    """Makes images of subjects; holds networks and settings, and no state of a run."""

    def __init__(
        self,
        *,
        adapter: FlexIPAdapter,
        references: ReferenceEncoder,
        prompts: PromptEncoder,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        config: FlexIPConfig | None = None,
    ) -> None:
        """Keeps networks and settings, and puts the adapter into the UNet.

        Raises:
            ValueError: If adapter, encoders, UNet and settings do not belong together.
        """
        self.adapter = adapter
        self.references = references
        self.prompts = prompts
        self.unet = unet
        self.vae = vae
        self.config = config or FlexIPConfig()
        check_belongs(adapter, references, self.config)
        self.layers = tuple(cross_attentions(unet))
        self.config.gates().of_layers(self.layers)
        inject(unet, adapter.layers(), adapter.config["text_branch"])

    @torch.no_grad()
    def __call__(
        self,
        prompts: Sequence[str],
        subjects: Sequence[Subject | Features],
        generators: Sequence[torch.Generator],
        *,
        gammas: Sequence[float] | None = None,
        height: int | None = None,
        width: int | None = None,
        decode: bool = True,
    ) -> FlexIPOutput:
        """One image per prompt, all in one batch.

        Args:
            prompts: What each image shows.
            subjects: The subject of each image, or its features from `encode_subject`; the same
                number of references in all.
            generators: Source of the initial noise of each image, on the CPU.
            gammas: gamma of each image; that of the settings if None.
            height: Of the images, in pixels; the setting if None.
            width: As `height`.
            decode: Whether to make pictures of the latents.

        Raises:
            ValueError: If lengths, gammas or sizes do not fit.
        """
        if not len(prompts) == len(subjects) == len(generators) > 0:
            raise ValueError(
                f"{len(prompts)} prompts, {len(subjects)} subjects and {len(generators)} "
                "generators; there must be one of each per image"
            )
        height = self.config.height if height is None else height
        width = self.config.width if width is None else width
        check_size(height, width)
        features = [
            one if isinstance(one, Features) else self.encode_subject(one) for one in subjects
        ]
        latents = self.denoise(
            initial_latents(
                generators,
                channels=self.unet.config["in_channels"],
                height=height,
                width=width,
                device=self.unet.device,
            ),
            self.conditional(prompts, features),
            self.unconditional(features),
            self.gates(gammas, len(prompts)),
        )
        return FlexIPOutput(
            images=decode_latents(self.vae, latents) if decode else [], latents=latents
        )

    def grid(
        self,
        prompts: Sequence[str],
        subjects: Sequence[Subject],
        gammas: Sequence[float],
        *,
        seeds: Sequence[int] = (0,),
        batch_size: int = 8,
        height: int | None = None,
        width: int | None = None,
    ) -> Iterator[GridCell]:
        """Every prompt with every subject, gamma and seed, in that order, as they are made.

        Subjects are encoded once. Images of one seed start from the same noise, so that they
        differ by prompt, subject and gamma alone.

        Raises:
            ValueError: If gammas or sizes do not fit, or a list is empty.
        """
        for name, entries in (("prompts", prompts), ("subjects", subjects), ("gammas", gammas)):
            if not entries:
                raise ValueError(f"{name} is empty; a grid needs at least one of each")
        features = [self.encode_subject(subject) for subject in subjects]
        cells = [
            (prompt, subject, gamma, seed)
            for prompt in range(len(prompts))
            for subject in range(len(subjects))
            for gamma in gammas
            for seed in seeds
        ]
        for chosen in _runs(cells, batch_size, [_references(features[cell[1]]) for cell in cells]):
            made = self(
                [prompts[prompt] for prompt, _, _, _ in chosen],
                [features[subject] for _, subject, _, _ in chosen],
                [torch.Generator().manual_seed(seed) for _, _, _, seed in chosen],
                gammas=[gamma for _, _, gamma, _ in chosen],
                height=height,
                width=width,
            )
            for (prompt, subject, gamma, seed), image in zip(chosen, made.images, strict=True):
                yield GridCell(prompt=prompt, subject=subject, gamma=gamma, seed=seed, image=image)

    def encode_subject(self, subject: Subject) -> Features:
        """Features of one subject, a batch of one."""
        return self.references(subject)

    @torch.no_grad()
    def conditional(self, prompts: Sequence[str], features: Sequence[Features]) -> Condition:
        """Text, P and S of prompts and subjects.

        Each is made by itself, because an image must not depend on its neighbours.

        Raises:
            ValueError: If subjects have different numbers of references.
        """
        counts = {_references(one) for one in features}
        if len(counts) > 1:
            raise ValueError(
                f"the subjects of a batch must have the same number of references, got "
                f"{sorted(counts)}"
            )
        return Condition.cat(
            [self._condition(prompt, one) for prompt, one in zip(prompts, features, strict=True)]
        )

    @torch.no_grad()
    def unconditional(self, features: Sequence[Features]) -> Condition:
        """Text of the negative prompt, P0 and S0: those of zero features, the same for all."""
        null = self._condition(self.config.negative_prompt, features[0].null())
        return Condition.cat([null] * len(features))

    def _condition(self, prompt: str, features: Features) -> Condition:
        device = self.adapter.device
        made = condition(
            self.adapter,
            self.prompts.tokens([prompt]).to(device, self.adapter.dtype),
            Features(features.class_tokens.to(device), features.patches.to(device)),
            self.config.multi_reference,
        )
        return made.to(self.unet.device, self.unet.dtype)

    def gates(self, gammas: Sequence[float] | None, count: int) -> Gates:
        """The gates of a batch; one number where all images have the same gamma.

        Raises:
            ValueError: If there is not one gamma per image, or one is outside [0, 1].
        """
        gates = self.config.gates()
        if gammas is None:
            return gates
        if len(gammas) != count:
            raise ValueError(f"{len(gammas)} gammas for {count} images; give one per image")
        for gamma in gammas:
            check_gamma(gamma)
        if len(set(gammas)) == 1:
            return replace(gates, gamma=gammas[0])
        return replace(gates, gamma=torch.tensor(gammas, device=self.unet.device))

    @torch.no_grad()
    def denoise(
        self, latents: Tensor, conditional: Condition, unconditional: Condition, gates: Gates
    ) -> Tensor:
        """DDIM (eta 0) from noise to image latents, (batch, 4, h, w), both in float32.

        gamma and strength are the same in both halves of the guidance.
        """
        guided = self.config.guidance_scale != 1.0
        if guided:
            conditional = Condition.cat([unconditional, conditional])
            if isinstance(gates.gamma, Tensor):
                gates = replace(gates, gamma=gates.gamma.repeat(2))
        context = conditional.context(gates, self.layers)
        context = context._replace(projections=project_layers(self.unet, context))
        scheduler = ddim_scheduler()
        scheduler.set_timesteps(self.config.num_inference_steps)
        # The sampler reads its timesteps on the CPU: the loop never waits for the device.
        on_device = scheduler.timesteps.to(latents.device)
        for timestep, network_timestep in zip(scheduler.timesteps, on_device, strict=True):
            noisy = (torch.cat([latents, latents]) if guided else latents).to(self.unet.dtype)
            noise = self.unet(noisy, network_timestep, context, return_dict=False)[0].float()
            if guided:
                without, with_condition = noise.chunk(2)
                noise = without + self.config.guidance_scale * (with_condition - without)
            latents = scheduler.step(noise, timestep, latents, eta=0.0, return_dict=False)[0]
        return latents


def _references(features: Features) -> int:
    return features.class_tokens.shape[1]


Cell = tuple[int, int, float, int]


def _runs(cells: Sequence[Cell], size: int, kinds: Sequence[int]) -> Iterator[list[Cell]]:
    """Neighbours of one kind, at most `size` at a time."""
    run: list[Cell] = []
    previous = None
    for cell, kind in zip(cells, kinds, strict=True):
        if run and (len(run) == size or kind != previous):
            yield run
            run = []
        run.append(cell)
        previous = kind
    if run:
        yield run
