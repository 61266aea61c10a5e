"""EditedID on registered crops: alignment, disentanglement, entanglement, as in the paper."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from einops import rearrange
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from idbench.methods.editedid.attention import gated
from idbench.methods.editedid.blend import attention_mask, blend, element_mask
from idbench.methods.editedid.codec import decode, encode_images, encode_prompts
from idbench.methods.editedid.config import EditedIDConfig
from idbench.methods.editedid.gate import (
    INTERMEDIATE,
    ORIGINAL,
    ROLES,
    TARGET,
    AttentionalGate,
    TokenSwap,
)
from idbench.methods.editedid.masks import Mask
from idbench.methods.editedid.mixing import AdaptiveMixer
from idbench.methods.editedid.null_text import NullText, optimise_null_text
from idbench.methods.editedid.scheduler import HybridDDIMDPMScheduler
from idbench.methods.editedid.solver import Prediction
from idbench.methods.editedid.text import Prompts, token_swap
from idbench.methods.editedid.trajectories import Inversion, invert_pair

# Gradients of a half-precision UNet underflow without it; Adam is indifferent to the scale.
_HALF_LOSS_SCALE = 1024.0


@dataclass(frozen=True, kw_only=True, slots=True)
class FacePair:
    """One face: the registered crops of original and edited image, what to take from each.

    Attributes:
        original: RGB, square, at the pipeline's resolution.
        intermediate: Likewise, in the same pixel frame.
        mask_o: Elements taken from the original, at that resolution.
        mask_i: Elements taken from the edited image.
        prompts: Prompts and elements.
    """

    original: Image.Image
    intermediate: Image.Image
    mask_o: Mask
    mask_i: Mask
    prompts: Prompts


@dataclass(frozen=True, slots=True)
class Encoded:
    """A batch of pairs as tensors.

    Attributes:
        latents: (faces, 2, channels, h, w) in float32.
        prompt_embeds: (faces, 3, 77, dim).
        null_embeds: Embedding of the empty prompt, (77, dim).
        swaps: Which tokens take their cross-attention from where, per face.
        mask_o: (faces, 1, height, width), of 0 and 1.
        mask_i: Likewise.
    """

    latents: Tensor
    prompt_embeds: Tensor
    null_embeds: Tensor
    swaps: list[TokenSwap]
    mask_o: Tensor
    mask_i: Tensor


@dataclass(frozen=True, slots=True)
class Entangled:
    """States of the entanglement pass.

    Attributes:
        states: N + 1 tensors (faces, 3, channels, h, w), levels 0 to N; rows are original,
            intermediate and target.
        vanished: Resolutions at which a mask that holds something is empty.
    """

    states: list[Tensor]
    vanished: list[int]


@dataclass(frozen=True, kw_only=True, slots=True)
class EditedIDOutput:
    """Result of a batch of pairs, by face, with all that is known of how it came about.

    Attributes:
        images: The restored faces.
        reconstructions: Original and intermediate image as the same pass rebuilt them, if asked.
        inversion: States and mixing weights.
        null_text: Losses and embeddings, None without optimisation.
        entangled: States of the final pass.
        timesteps: Of the hybrid sequence.
    """

    images: list[Image.Image]
    reconstructions: list[tuple[Image.Image, Image.Image]]
    inversion: Inversion
    null_text: NullText | None
    entangled: Entangled
    timesteps: list[int]


class EditedIDPipeline(DiffusionPipeline):  # type: ignore[misc]  # untyped base
    """Restores faces of an edited image from the original, on Stable Diffusion 1.x.

    Any scheduler of a Stable Diffusion folder is accepted; its noise schedule is taken over.
    """

    model_cpu_offload_seq = "text_encoder->unet->vae"

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel | None,
        tokenizer: CLIPTokenizer | None,
        unet: UNet2DConditionModel,
        scheduler: SchedulerMixin,
    ) -> None:
        """Takes the components of a Stable Diffusion folder.

        Without text encoder and tokenizer only the stages after `encode` can be run.
        """
        super().__init__()
        if not isinstance(scheduler, HybridDDIMDPMScheduler):
            scheduler = HybridDDIMDPMScheduler.like(scheduler.config)
        self.register_modules(
            vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler
        )
        # Only null embeddings are optimised.
        for module in (vae, text_encoder, unet):
            if module is not None:
                module.requires_grad_(False).eval()

    @property
    def resolution(self) -> int:
        """Side of the crops in pixels."""
        return int(self.unet.config["sample_size"]) * self.vae_scale_factor

    @property
    def vae_scale_factor(self) -> int:
        """Pixels per latent."""
        return int(2 ** (len(self.vae.config["block_out_channels"]) - 1))

    def __call__(
        self,
        pairs: Sequence[FacePair],
        config: EditedIDConfig | None = None,
        *,
        reconstructions: bool = False,
    ) -> EditedIDOutput:
        """Restores all faces as one batch.

        Args:
            pairs: Registered pairs; of one image or of several.
            config: Settings.
            reconstructions: Also decode the two reconstructions.

        Raises:
            ValueError: If an image has another size than the resolution, both masks of a face are
                empty, an element is not in its prompts, or the timesteps do not decrease.
            FloatingPointError: If latents are no numbers.
        """
        config = config or EditedIDConfig()
        scheduler = self.scheduler.configured(config)
        encoded = self.encode(pairs, config)
        inversion = self.align(encoded, scheduler, config)
        null_text = self.disentangle(encoded, inversion, scheduler, config)
        entangled = self.entangle(encoded, inversion, null_text, scheduler, config)
        final = entangled.states[-1]
        if not final.isfinite().all():
            raise FloatingPointError(
                "the latents hold values that are no numbers; use float32 or bfloat16, or a lower "
                "guidance_scale"
            )
        rebuilt = (
            decode(self.vae, final[:, :TARGET], truncate=config.truncate_uint8)
            if reconstructions
            else []
        )
        return EditedIDOutput(
            images=decode(self.vae, final[:, TARGET], truncate=config.truncate_uint8),
            reconstructions=list(zip(rebuilt[::2], rebuilt[1::2], strict=True)),
            inversion=inversion,
            null_text=null_text,
            entangled=entangled,
            timesteps=scheduler.timesteps.tolist(),
        )

    @torch.no_grad()
    def encode(self, pairs: Sequence[FacePair], config: EditedIDConfig) -> Encoded:
        """Images to latents (posterior mean), prompts to embeddings, masks to tensors.

        Raises:
            ValueError: As in `__call__`.
        """
        for index, pair in enumerate(pairs):
            self._check(index, pair)
        images = [image for pair in pairs for image in (pair.original, pair.intermediate)]
        latents = encode_images(self.vae, images)
        texts = [prompt for pair in pairs for prompt in pair.prompts.by_role]
        embeds = encode_prompts(self.tokenizer, self.text_encoder, [*texts, ""])
        masks = [
            torch.from_numpy(np.stack([getattr(pair, name) for pair in pairs])).float()[:, None]
            for name in ("mask_o", "mask_i")
        ]
        return Encoded(
            rearrange(latents, "(f r) c h w -> f r c h w", r=TARGET),
            rearrange(embeds[:-1], "(f r) n d -> f r n d", r=ROLES),
            embeds[-1],
            [token_swap(self.tokenizer, pair.prompts, config) for pair in pairs],
            *masks,
        )

    def align(
        self, encoded: Encoded, scheduler: HybridDDIMDPMScheduler, config: EditedIDConfig
    ) -> Inversion:
        """Dual inversion with adaptive mixing; predictions are conditional only."""
        sources = encoded.prompt_embeds[:, :TARGET]
        with torch.no_grad():
            return invert_pair(
                encoded.latents,
                lambda latents, timestep: self.predict_noise(latents, timestep, sources),
                scheduler,
                AdaptiveMixer(config, len(encoded.latents)),
            )

    def disentangle(
        self,
        encoded: Encoded,
        inversion: Inversion,
        scheduler: HybridDDIMDPMScheduler,
        config: EditedIDConfig,
    ) -> NullText | None:
        """Null-text optimisation of both images, or None where the prompt takes its place."""
        if config.null_mode == "prompt":
            return None
        half = self.unet.dtype == torch.float16
        if config.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
        try:
            return optimise_null_text(
                inversion.states,
                self.predict_noise,
                encoded.prompt_embeds[:, :TARGET],
                encoded.null_embeds,
                scheduler,
                config,
                loss_scale=_HALF_LOSS_SCALE if half else 1.0,
            )
        finally:
            self.unet.disable_gradient_checkpointing()

    @torch.no_grad()
    def entangle(
        self,
        encoded: Encoded,
        inversion: Inversion,
        null_text: NullText | None,
        scheduler: HybridDDIMDPMScheduler,
        config: EditedIDConfig,
    ) -> Entangled:
        """Reconstructs both images and the target beside them, which takes from both."""
        start = inversion.states[0]
        # With alignment both starts are the same; without it the target starts from the original.
        state = torch.cat([start, start[:, :1]], dim=1)
        gate = AttentionalGate(
            config,
            encoded.mask_o,
            encoded.mask_i,
            encoded.swaps,
            latent_size=state.shape[-1],
            branches=1 if null_text is None else 2,
            device=state.device,
            dtype=self.unet.dtype,
        )
        guidance = self._guidance(config, state)
        states, history = [state], None
        with gated(self.unet, gate):
            for step, timestep in enumerate(scheduler.timesteps.tolist()):
                gate.set_step(step)
                noise_pred = self._guided(
                    state, timestep, encoded, null_text, step, guidance, config
                )
                moved: tuple[Tensor, Prediction | None] = scheduler.step(
                    state, noise_pred, step, history
                )
                state, history = self._blend(moved[0], step, encoded, gate, config), moved[1]
                states.append(state)
        return Entangled(states, gate.vanishing)

    def predict_noise(self, latents: Tensor, timestep: int, prompt_embeds: Tensor) -> Tensor:
        """The network's prediction in float32 for latents and embeddings (faces, roles, ...)."""
        # A tensor, since a compiled network would be compiled again for every number.
        time = torch.full((), timestep, device=latents.device)
        predicted: Tensor = self.unet(
            latents.flatten(0, 1).to(self.unet.dtype),
            time,
            encoder_hidden_states=prompt_embeds.flatten(0, 1).to(self.unet.dtype),
            return_dict=False,
        )[0]
        return predicted.float().view_as(latents)

    def _check(self, index: int, pair: FacePair) -> None:
        side = self.resolution
        for name in ("original", "intermediate"):
            image: Image.Image = getattr(pair, name)
            if image.size != (side, side) or image.mode != "RGB":
                raise ValueError(
                    f"{name} of face {index} must be RGB of {side} x {side} pixels, got "
                    f"{image.mode} of {image.width} x {image.height}; crop and resize it first"
                )
        if not pair.mask_o.any() and not pair.mask_i.any():
            raise ValueError(
                f"both masks of face {index} are empty: nothing would be taken from either image; "
                "give a mask of the face or of an element"
            )

    def _guidance(self, config: EditedIDConfig, like: Tensor) -> Tensor:
        """Guidance scales by role, broadcastable to latents."""
        sources = config.guidance_reconstruction
        scales = [config.guidance_scale if sources is None else sources] * TARGET
        return like.new_tensor([*scales, config.guidance_scale]).view(ROLES, 1, 1, 1)

    def _guided(
        self,
        state: Tensor,
        timestep: int,
        encoded: Encoded,
        null_text: NullText | None,
        step: int,
        guidance: Tensor,
        config: EditedIDConfig,
    ) -> Tensor:
        """Guided prediction for all three rows, from one batch ordered (branch, face, role)."""
        if null_text is None:
            return self.predict_noise(state, timestep, encoded.prompt_embeds)
        null = null_text.embeddings[step]
        target = {
            "original": null[:, ORIGINAL],
            "intermediate": null[:, INTERMEDIATE],
            "mean": null.mean(1),
        }[config.target_null]
        unconditional = torch.cat([null, target[:, None]], dim=1)
        both = self.predict_noise(
            torch.cat([state, state]), timestep, torch.cat([unconditional, encoded.prompt_embeds])
        )
        without, with_prompt = both.chunk(2)
        return without + guidance * (with_prompt - without)

    def _blend(
        self,
        state: Tensor,
        step: int,
        encoded: Encoded,
        gate: AttentionalGate,
        config: EditedIDConfig,
    ) -> Tensor:
        start = int(config.blend_start * config.num_inference_steps)
        if not config.entanglement or config.blend == "none" or step < start:
            return state
        base = INTERMEDIATE if config.blend_base == "intermediate" else ORIGINAL
        size = state.shape[-1]
        if config.blend == "mask":
            mask = element_mask(encoded.mask_o, encoded.mask_i, size)[:, None]
        else:
            maps = gate.maps / gate.map_count
            square = rearrange(maps, "f r (h w) -> f r h w", h=round(maps.shape[-1] ** 0.5))
            mask = attention_mask(square, size, config.blend_threshold, base)
        return blend(state, mask.to(state), base, rows=[TARGET])
