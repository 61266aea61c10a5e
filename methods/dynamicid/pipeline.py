"""DynamicID's pipeline: people and a prompt to images, as the paper's inference goes.

Identities are encoded (and edited by the IMR), the prompt is encoded, noise becomes latents by
DDIM with classifier-free guidance through semantic-activated attention, latents become images.
"""

from collections.abc import Sequence
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
from idbench.methods.dynamicid.config import DynamicIDConfig
from idbench.methods.dynamicid.control import IdMix, SAAControl
from idbench.methods.dynamicid.identity import IdentityEncoder
from idbench.methods.dynamicid.injection import project_contexts
from idbench.methods.dynamicid.layout import Box, Layout, layout_steps
from idbench.methods.dynamicid.person import Person, boxes_of
from idbench.methods.dynamicid.recorder import ActivationRecorder


@dataclass(frozen=True, kw_only=True, slots=True)
class DynamicIDOutput:
    """Images with what led to them.

    `latents` are (batch, 4, h / 8, w / 8) in float32, `boxes` per image, `face_prompts` per image
    and person: (source, target) of what the IMR did, or None.
    """

    images: list[Image.Image]
    latents: Tensor
    boxes: tuple[tuple[Box, ...], ...] | None
    face_prompts: tuple[tuple[tuple[str, str] | None, ...], ...]
    layout_steps: int


class DynamicIDPipeline:
    """Makes images of one or several people; holds networks and settings, and no state of a run."""

    def __init__(
        self,
        *,
        identity: IdentityEncoder,
        prompts: PromptEncoder,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        config: DynamicIDConfig | None = None,
    ) -> None:
        """Keeps networks and settings; the UNet has semantic-activated attention installed."""
        self.identity = identity
        self.prompts = prompts
        self.unet = unet
        self.vae = vae
        self.config = config or DynamicIDConfig()

    @torch.no_grad()
    def __call__(
        self,
        prompts: Sequence[str],
        people: Sequence[Sequence[Person]],
        generators: Sequence[torch.Generator],
        *,
        height: int | None = None,
        width: int | None = None,
        id_mix: IdMix | None = None,
        mix_scale: float | None = None,
        recorder: ActivationRecorder | None = None,
        decode: bool = True,
    ) -> DynamicIDOutput:
        """One image per prompt.

        Args:
            prompts: What each image shows.
            people: The people of each image, in the order of the prompt; the same number in all,
                with boxes in all or in none.
            generators: Source of the initial noise of each image, on the CPU.
            height: Of the images, in pixels; the setting if None.
            width: As `height`.
            id_mix: Blend the two people of each image into one face, by "logit" (official code) or
                by "prob"; see `SAAControl`.
            mix_scale: Share of the first of them, in [0, 1].
            recorder: Keeps the query activations.
            decode: Whether to make pictures of the latents.

        Raises:
            NoFaceError: If a reference has no face.
            ValueError: If lengths, boxes or sizes do not fit.
        """
        if not len(prompts) == len(people) == len(generators) > 0:
            raise ValueError(
                f"{len(prompts)} prompts, {len(people)} lists of people and {len(generators)} "
                "generators; there must be one of each per image"
            )
        height = self.config.height if height is None else height
        width = self.config.width if width is None else width
        check_size(height, width)
        layout = self.layout(people, height, width, mixed=id_mix is not None)
        control = self.control(
            num_people=len(people[0]), layout=layout, id_mix=id_mix, mix_scale=mix_scale
        )
        encoded = [[self.identity.encode(person) for person in image] for image in people]
        tokens = torch.cat([torch.cat([one.tokens for one in image], dim=1) for image in encoded])
        latents = self.denoise(
            self.initial_latents(generators, height, width),
            self.context(prompts, tokens),
            replace(control, recorder=recorder),
        )
        return DynamicIDOutput(
            images=self.decode(latents) if decode else [],
            latents=latents,
            boxes=layout.boxes if layout else None,
            face_prompts=tuple(tuple(one.face_prompts for one in image) for image in encoded),
            layout_steps=control.layout_steps,
        )

    def layout(
        self,
        people: Sequence[Sequence[Person]],
        height: int,
        width: int,
        *,
        mixed: bool = False,
    ) -> Layout | None:
        """The boxes of a batch, or None where its images have none.

        Raises:
            ValueError: If images differ in their number of people or in having boxes.
        """
        legacy = self.config.legacy_full_frame_layout
        boxes = [boxes_of(image, mixed=mixed, legacy_full_frame=legacy) for image in people]
        counts = {len(image) for image in people}
        given = [sample for sample in boxes if sample is not None]
        if len(counts) != 1 or len(given) not in (0, len(boxes)):
            raise ValueError(
                f"the images of a batch must have the same number of people, got {sorted(counts)}, "
                "and boxes in all of them or in none"
            )
        return Layout(given, height=height, width=width) if given else None

    def control(
        self,
        *,
        num_people: int,
        layout: Layout | None = None,
        id_mix: IdMix | None = None,
        mix_scale: float | None = None,
    ) -> SAAControl:
        """The settings of semantic-activated attention for one generation."""
        return SAAControl(
            num_people=num_people,
            tokens_per_person=self.identity.tokens_per_person,
            layout=layout,
            layout_steps=layout_steps(self.config.alpha, self.config.num_inference_steps),
            beta=self.config.beta,
            gate_threshold=self.config.gate_threshold,
            id_scale=self.config.id_scale,
            activate_query=self.config.activate_query,
            id_mix=id_mix,
            mix_scale=mix_scale,
        )

    def context(self, prompts: Sequence[str], identity_tokens: Tensor) -> Tensor:
        """[text, identity] for the unconditional half and then for the conditional one.

        `identity_tokens` is (batch, n x 4, width). The unconditional half has n times the tokens
        of no face, which no IMR edits.
        """
        nobody = self.identity.face_encoder.unconditional_tokens()
        people = identity_tokens.shape[1] // nobody.shape[1]
        nobody = nobody.repeat(len(prompts), people, 1)
        # One prompt at a time: a prompt's tokens must not depend on its neighbours.
        text = torch.cat([self.prompts.tokens([one]) for one in prompts])
        negative = self.prompts.tokens([self.config.negative_prompt]).expand_as(text)
        texts, identities = torch.cat([negative, text]), torch.cat([nobody, identity_tokens])
        device, dtype = self.unet.device, self.unet.dtype
        return torch.cat([texts.to(device, dtype), identities.to(device, dtype)], dim=1)

    def initial_latents(
        self, generators: Sequence[torch.Generator], height: int, width: int
    ) -> Tensor:
        """Noise (batch, 4, height / 8, width / 8), float32, each image from its own generator."""
        return initial_latents(
            generators,
            channels=self.unet.config["in_channels"],
            height=height,
            width=width,
            device=self.unet.device,
        )

    @torch.no_grad()
    def denoise(self, latents: Tensor, context: Tensor, control: SAAControl) -> Tensor:
        """DDIM (eta 0) from noise to image latents, (batch, 4, h, w), both in float32.

        `context` is (2 batch, tokens, width), unconditional half first; both halves pass the gate
        with the same boxes. Step indices are given to the gate, not counted by it.
        """
        if control.layout is not None:
            control = replace(control, layout=control.layout.repeated(2))
        control = replace(control, projections=project_contexts(self.unet, context, control))
        scheduler = ddim_scheduler()
        scheduler.set_timesteps(self.config.num_inference_steps)
        # The sampler reads its timesteps on the CPU: the loop never waits for the device.
        timesteps = scheduler.timesteps.to(latents.device)
        for step_index, timestep in enumerate(scheduler.timesteps):
            if control.recorder is not None:
                control.recorder.step_index = step_index
            noise = self.unet(
                torch.cat([latents, latents]).to(self.unet.dtype),
                timesteps[step_index],
                context,
                cross_attention_kwargs={"saa": control.at_step(step_index)},
                return_dict=False,
            )[0].float()
            unconditional, conditional = noise.chunk(2)
            noise = unconditional + self.config.guidance_scale * (conditional - unconditional)
            latents = scheduler.step(noise, timestep, latents, eta=0.0, return_dict=False)[0]
        return latents

    @torch.no_grad()
    def decode(self, latents: Tensor) -> list[Image.Image]:
        """Latents to RGB images, one by one, so that memory does not grow with the batch.

        Raises:
            FloatingPointError: If latents are not finite.
        """
        return decode_latents(self.vae, latents)
