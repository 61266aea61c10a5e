"""FLUX as loaded: text encoding, noise, the time grid and decoding, on diffusers' pipeline."""

import logging
from collections.abc import Sequence

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from PIL import Image
from torch import Tensor

from idbench.methods.common.flux_config import FluxConfig, Quantization
from idbench.methods.common.flux_sampling import euler_scheduler
from idbench.methods.common.flux_weights import load_transformer

_log = logging.getLogger(__name__)


class FluxBackbone:
    """A FLUX pipeline in named steps.

    The parts are diffusers' own. Load it, attach what hooks into `transformer`, then `place` it:
    compiled graphs do not notice hooks that come later.
    """

    def __init__(self, pipe: FluxPipeline, config: FluxConfig) -> None:
        """Keeps the parts; `load` reads them from disk."""
        self.pipe = pipe
        self.config = config
        self.dtype: torch.dtype = getattr(torch, config.dtype)

    @classmethod
    def load(cls, config: FluxConfig) -> "FluxBackbone":
        """Reads all parts from disk, on the CPU; no network is used.

        Raises:
            FileNotFoundError: If files are missing.
            ValueError: If weights do not fit, or the quantization needs a folder and got a file.
        """
        files = config.files()
        dtype = getattr(torch, config.dtype)
        source = files.get("transformer", files["model"] / "transformer")
        if config.quantization in ("int8", "nf4"):
            if not source.is_dir():
                raise ValueError(
                    f"quantization {config.quantization!r} needs the transformer as a folder in "
                    f"diffusers' layout, got {source}; use 'fp8' for a single file"
                )
            transformer = FluxTransformer2DModel.from_pretrained(
                source,
                dtype=dtype,
                local_files_only=True,
                quantization_config=bitsandbytes_config(config.quantization, dtype),
            )
        else:
            transformer = load_transformer(source, dtype)
        pipe = FluxPipeline.from_pretrained(
            files["model"], transformer=transformer, dtype=dtype, local_files_only=True
        )
        pipe.set_progress_bar_config(disable=True)
        return cls(pipe, config)

    @property
    def transformer(self) -> FluxTransformer2DModel:
        """The denoising network."""
        return self.pipe.transformer

    @property
    def device(self) -> torch.device:
        """Where the networks compute."""
        return torch.device(self.config.device)

    def place(self) -> None:
        """Moves the parts to the device, or sets up offloading, and compiles."""
        config = self.config
        if config.quantization == "fp8":
            self.transformer.enable_layerwise_casting(
                storage_dtype=torch.float8_e4m3fn, compute_dtype=self.dtype
            )
        if config.offload == "model":
            self.pipe.enable_model_cpu_offload(device=self.device)
        elif config.offload == "group":
            self.pipe.enable_group_offload(
                onload_device=self.device,
                offload_type="block_level",
                num_blocks_per_group=1,
                use_stream=self.device.type == "cuda",
            )
        else:
            self.pipe.to(self.device)
        if config.compile == "blocks":
            self.transformer.compile_repeated_blocks(fullgraph=True)
        elif config.compile == "full":
            self.transformer.compile(fullgraph=True)

    @torch.no_grad()
    def encode_prompt(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """T5 tokens [batch, max_sequence_length, width] and CLIP's pooled text [batch, width].

        T5 is padded to the full length and gets no mask, as FLUX was trained.
        """
        prompt_embeds, pooled_prompt_embeds, _ = self.pipe.encode_prompt(
            prompt=list(prompts),
            device=self.device,
            max_sequence_length=self.config.max_sequence_length,
        )
        return prompt_embeds.to(self.dtype), pooled_prompt_embeds.to(self.dtype)

    def noise(self, seeds: Sequence[int], width: int, height: int) -> tuple[Tensor, Tensor]:
        """Packed starting noise [batch, tokens, channels] and positions of its tokens [tokens, 3].

        Each sample has its own generator, so it does not depend on the batch. Drawn in the dtype
        of the networks, as the official sampler does.
        """
        on = self.device if self.config.noise_device == "execution" else torch.device("cpu")
        channels = self.transformer.config.in_channels // 4
        scale = self.pipe.vae_scale_factor
        rows, columns = height // scale, width // scale
        draws = [
            torch.randn(
                (1, channels, rows, columns),
                generator=torch.Generator(on).manual_seed(seed),
                device=on,
                dtype=self.dtype,
            )
            for seed in seeds
        ]
        noise = torch.cat(draws).to(self.device)
        packed = FluxPipeline._pack_latents(noise, len(draws), channels, rows, columns)
        positions = FluxPipeline._prepare_latent_image_ids(
            len(draws), rows // 2, columns // 2, self.device, self.dtype
        )
        return packed, positions

    def scheduler(self, image_tokens: int) -> FlowMatchEulerDiscreteScheduler:
        """A fresh scheduler with the grid for this number of steps and tokens."""
        return euler_scheduler(self.config.num_inference_steps, image_tokens)

    def unpack(self, latents: Tensor, width: int, height: int) -> Tensor:
        """Packed latents as the VAE decodes them, [batch, channels, height / 8, width / 8]."""
        unpacked = FluxPipeline._unpack_latents(latents, height, width, self.pipe.vae_scale_factor)
        vae = self.pipe.vae
        scaled: Tensor = unpacked / vae.config.scaling_factor + vae.config.shift_factor
        return scaled

    @torch.no_grad()
    def decode(self, latents: Tensor, width: int, height: int) -> list[Image.Image | None]:
        """Images of packed latents; None where they are not finite.

        Decoded one by one: memory does not grow with the batch, and neighbours have no influence.
        """
        unpacked = self.unpack(latents, width, height)
        images: list[Image.Image | None] = []
        for sample in torch.split(unpacked, 1):
            decoded = self.pipe.vae.decode(sample.to(self.pipe.vae.dtype), return_dict=False)[0]
            finite = bool(torch.isfinite(decoded).all())
            images.append(self.pipe.image_processor.postprocess(decoded)[0] if finite else None)
        return images

    def release(self) -> None:
        """Ends a batch: offloaded parts leave the device; peak memory goes to the log."""
        self.pipe.maybe_free_model_hooks()
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device) / 1e9
            _log.info("peak device memory so far: %.2f GB", peak)


def bitsandbytes_config(quantization: Quantization, dtype: torch.dtype) -> object:
    """The configuration by which diffusers loads a transformer in eight or four bits."""
    from diffusers import BitsAndBytesConfig

    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )
