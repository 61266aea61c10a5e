"""`idbench train dynamicid-imr`: the reconfiguration stage, from VariFace to the IMR.

A configuration (all settings: `ReconfigurationConfig` and `TrainingConfig`):

    output: runs/imr
    data: variface                     # IDENTITY/NAME.png, NAME.txt, NAME_landmark.png
    kdef: KDEF                         # PERSON/AF01ANS.JPG, AF01ANS_landmark.png
    weights: weights
    saa: runs/saa/SAA.safetensors
    steps: 100000
    micro_batch_size: 8
    mixed_precision: bf16

With several processes each sees its own identities, and the running statistics of the key point
encoder are those of the first.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from PIL import Image
from torch import Tensor

from idbench.methods.common.files import sha256_of_file
from idbench.methods.common.pretrained import load_stable_diffusion
from idbench.methods.common.prompt_encoder import PromptEncoder
from idbench.methods.common.sd15 import ddim_scheduler
from idbench.methods.common.training import (
    Report,
    Trainee,
    frozen_dtype,
    indices_of_step,
    make_accelerator,
    normal,
    read_config,
    rng_of,
    run,
    share_of,
)
from idbench.methods.dynamicid.anchoring import NUM_TIMESTEPS
from idbench.methods.dynamicid.anchoring_data import (
    latent_moments,
    sample_latents,
    training_pixels,
)
from idbench.methods.dynamicid.checkpoints import (
    build_keypoint_encoder,
    build_projection,
    build_reconfigurator,
    build_saa,
    read_saa,
    read_state_dict,
    save_module_tensors,
)
from idbench.methods.dynamicid.config import DynamicIDConfig
from idbench.methods.dynamicid.encoder import FaceEncoder
from idbench.methods.dynamicid.faces import FaceAnalyser
from idbench.methods.dynamicid.injection import merge_lora
from idbench.methods.dynamicid.keypoints import KeypointEncoder
from idbench.methods.dynamicid.loading import load_clip_vision
from idbench.methods.dynamicid.losses import direct_feature_matching
from idbench.methods.dynamicid.projection import FaceProjection
from idbench.methods.dynamicid.reconfiguration import (
    COMMON_PROMPT,
    ConsistencyTeacher,
    Episode,
    Noised,
    ReconfigurationConfig,
    ReconfigurationModel,
    draw_episode,
)
from idbench.methods.dynamicid.reconfigurator import (
    IdentityMotionReconfigurator,
    ReconfiguratorConfig,
)
from idbench.methods.dynamicid.token_cache import TokenCache
from idbench.methods.dynamicid.variface import Identity, Portrait, read_identities
from idbench.methods.dynamicid.weights import DynamicIDFiles, keypoint_file

RESULT = "IMR.safetensors"


def train(config_path: Path, report: Report) -> Path:
    """Runs the stage, or goes on with it, and returns the file of the IMR.

    Its key point encoder is written beside it.

    Raises:
        ValueError: If a setting, the data, a cache or a checkpoint is wrong.
        MissingWeightsError: If a file is absent.
    """
    config = read_config(config_path, ReconfigurationConfig)
    accelerator = make_accelerator(config)
    stage = Stage(config, accelerator)
    model = stage.model()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    prepared, optimizer = accelerator.prepare(model, optimizer)

    def backward(step: int) -> Mapping[str, Tensor]:
        indices = indices_of_step(
            config.seed, step, config.identities_per_step, len(stage.identities)
        )
        mine = share_of(accelerator, indices)
        totals = {"dfm": torch.zeros((), device=accelerator.device)}
        if stage.teacher is not None:
            totals["ldc"] = totals["dfm"].clone()
        for number, (place, index) in enumerate(mine):
            last = number + 1 == len(mine)
            with nullcontext() if last else accelerator.no_sync(prepared):
                losses = stage.backward(prepared, step, place, index, share=1 / len(mine))
            for name, value in losses.items():
                totals[name] += value / len(mine)
        return totals

    run(config, accelerator, Trainee(module=model, optimizer=optimizer, backward=backward), report)
    result = config.output / RESULT
    if accelerator.is_main_process:
        metadata = {"stage": "reconfiguration", **config.recorded()}
        save_module_tensors(keypoint_file(result), model.keypoints.state_dict(), metadata)
        save_module_tensors(result, model.imr.state_dict(), metadata)
    return result


class Stage:
    """The frozen networks, the data and one identity's work."""

    def __init__(self, config: ReconfigurationConfig, accelerator: Accelerator) -> None:
        """Reads the frozen networks and completes the token caches."""
        self.config = config
        self.accelerator = accelerator
        self.scheduler = ddim_scheduler()
        self.files = DynamicIDFiles.in_folder(
            config.weights,
            base=config.base,
            clip_vision=config.clip_vision,
            face_models=config.face_models,
            saa=config.saa,
        )
        self.files.require("base", "clip_vision", "face_models", "saa")
        device, dtype = accelerator.device, frozen_dtype(config)
        tokenizer, text_encoder, vae, unet = load_stable_diffusion(self.files.base, device, dtype)
        self.prompts = PromptEncoder(tokenizer, text_encoder)
        states = read_saa(self.files.saa)
        projection = build_projection(states.projection, self.files.saa).to(device)
        self.sizes = projection.config
        self.vae: AutoencoderKL | None = None
        self.teacher: ConsistencyTeacher | None = None
        if config.ldc_weight > 0.0:
            build_saa(unet, states.attention, self.files.saa)
            merge_lora(unet)
            if config.gradient_checkpointing:
                unet.enable_gradient_checkpointing()
                unet.train()  # has no dropout; checkpointing is off in evaluation mode
            self.vae = vae
            self.teacher = ConsistencyTeacher(
                unet, tokens_per_person=self.sizes.num_tokens, threshold=config.gate_threshold
            )
        self._read_data(projection.requires_grad_(False), dtype)

    def _read_data(self, projection: FaceProjection, dtype: torch.dtype) -> None:
        config = self.config
        cache = config.cache or config.output / "tokens"
        digest = self._encoder_digest()
        self.cache, self.kdef_cache = (
            TokenCache(cache / name, digest) for name in ("base_cache", "KDEF_cache")
        )
        identities = read_identities(config.data)
        kdef = read_identities(config.kdef, kdef=True) if config.kdef else []
        with self.accelerator.main_process_first():
            device = self.accelerator.device
            encoder = FaceEncoder(
                FaceAnalyser(self.files.face_models, device=str(device)),
                load_clip_vision(self.files.clip_vision, device, dtype),
                projection,
                DynamicIDConfig(face_crop_factor=config.face_crop_factor),
            )
            self.cache.build(identities, encoder, self.prompts)
            self.kdef_cache.build(kdef, encoder, self.prompts)
        self.identities = self.cache.usable(identities)
        self.kdef = self.kdef_cache.usable(kdef) if kdef else []

    def _encoder_digest(self) -> str:
        """What the cached tokens and text features depend on."""
        read = self.files.digested(["saa", "clip_vision", "face_models"])
        read |= {
            name: path
            for name, path in self.files.digested(["base"]).items()
            if name.startswith(("base/text_encoder/", "base/tokenizer/"))
        }
        lines = [f"{name} {sha256_of_file(path)}" for name, path in sorted(read.items())]
        lines.append(f"face_crop_factor {self.config.face_crop_factor}")
        lines.append(f"dtype {frozen_dtype(self.config)}")
        return sha256("\n".join(lines).encode()).hexdigest()

    def model(self) -> ReconfigurationModel:
        """The model with fresh weights drawn from the seed, or with those of `initial`."""
        config = self.config
        if config.initial is not None:
            keypoints = keypoint_file(config.initial)
            model = ReconfigurationModel(
                build_reconfigurator(read_state_dict(config.initial), config.initial),
                build_keypoint_encoder(read_state_dict(keypoints), keypoints),
            )
        else:
            width = self.sizes.cross_attention_dim
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(config.seed)
                model = ReconfigurationModel(
                    IdentityMotionReconfigurator(
                        ReconfiguratorConfig(
                            embedding_dim=width,
                            text_dim=self.prompts.model.config.hidden_size,
                            dim=config.imr_dim,
                            heads=config.imr_dim // 64,
                            disentangle_depth=config.imr_depth,
                            entangle_depth=config.imr_depth,
                        )
                    ),
                    KeypointEncoder(width, config.keypoint_width_divisor),
                )
        return model.train().to(self.accelerator.device)

    def backward(
        self, model: Any, step: int, place: int, index: int, *, share: float
    ) -> dict[str, Tensor]:
        """Accumulates the gradients of one identity, weighted by `share`; returns its losses."""
        rng = rng_of(self.config.seed, step, place)
        identity, cache, targets = self._draw_identity(rng.uniform(), rng.uniform(), index)
        episode = draw_episode(
            cache.load(identity), rng, targets=targets, landmark_noise=self.config.landmark_noise
        )
        device = self.accelerator.device
        target = episode.target_tokens.to(device)
        predicted = model(
            episode.source_tokens.to(device), episode.maps.to(device), episode.texts.to(device)
        )
        matching = direct_feature_matching(predicted, target)
        losses = {"dfm": matching.detach()}
        objective = matching
        if self.teacher is not None:
            noised = self._noised(episode, step, place)
            losses["ldc"], gradient = self.teacher.gradient(
                predicted, target, noised, self.config.micro_batch_size
            )
            # The same gradient as of the loss itself, whose graph ends at the predicted tokens.
            objective = objective + self.config.ldc_weight * (predicted * gradient).sum()
        self.accelerator.backward(objective * share)
        return losses

    def _draw_identity(
        self, source: float, person: float, index: int
    ) -> tuple[Identity, TokenCache, int | None]:
        if self.kdef and source < self.config.kdef_share:
            return self.kdef[int(person * len(self.kdef))], self.kdef_cache, None
        return self.identities[index], self.cache, self.config.targets_per_step

    def _noised(self, episode: Episode, step: int, place: int) -> Any:
        """Noise and times of each target, the same for both branches, drawn chunk by chunk."""

        def part(chosen: slice) -> Noised:
            drawn = [
                self._noise_target(episode.targets[number], step, place, number)
                for number in range(chosen.start, chosen.stop)
            ]
            latents, timesteps = (torch.stack(parts) for parts in zip(*drawn, strict=True))
            prompts = [
                COMMON_PROMPT if self.config.ldc_prompt == "common" else portrait.prompt
                for portrait in episode.targets[chosen]
            ]
            device = self.accelerator.device
            return Noised(latents.to(device), timesteps.to(device), self.prompts.tokens(prompts))

        return part

    def _noise_target(
        self, portrait: Portrait, step: int, place: int, number: int
    ) -> tuple[Tensor, Tensor]:
        rng = rng_of(self.config.seed, step, place, 1 + number)
        vae = self.vae
        if vae is None:
            raise RuntimeError("the VAE is loaded only with ldc_weight above 0")
        with Image.open(portrait.image) as opened:
            moments = latent_moments(vae, training_pixels(opened, self.config.resolution))
        shape = tuple(moments.shape[1:])
        timestep = torch.tensor([int(rng.integers(NUM_TIMESTEPS))])
        latents = sample_latents(moments, normal(rng, shape), float(vae.config["scaling_factor"]))
        noisy = self.scheduler.add_noise(latents[None], normal(rng, shape)[None], timestep)
        return noisy[0], timestep[0]
