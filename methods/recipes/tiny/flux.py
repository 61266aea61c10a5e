"""FLUX.1, Kontext and Redux as folders of diffusers."""

from pathlib import Path
from typing import Any

from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxControlNetModel,
    FluxPriorReduxPipeline,
    FluxTransformer2DModel,
)
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from torch import nn
from transformers import SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel

from idbench.methods.recipes.tiny.texts import (
    clip_text_encoder,
    clip_tokenizer,
    t5_encoder,
    t5_tokenizer,
)

WIDTH = 32  # of the stream: 2 heads of 16
TEXT_WIDTH = 24
POOLED_WIDTH = 32
BLOCKS = 2
CHANNELS = 4  # of latents
SIGLIP_WIDTH = 32


def vae(**options: Any) -> Any:
    """Four narrow levels without quantisation layers."""
    return AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=2,
        **{
            "use_quant_conv": False,
            "use_post_quant_conv": False,
            "scaling_factor": 0.3611,
            "shift_factor": 0.1159,
            **options,
        },
    )


def flux_parts() -> dict[str, Any]:
    """The components of FLUX.1-dev."""
    clip, t5 = clip_tokenizer(), t5_tokenizer()
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
        "transformer": FluxTransformer2DModel(
            in_channels=4 * CHANNELS,
            num_layers=BLOCKS,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=TEXT_WIDTH,
            pooled_projection_dim=POOLED_WIDTH,
            guidance_embeds=True,
            axes_dims_rope=(4, 6, 6),
        ),
        "vae": vae(),
        "text_encoder": clip_text_encoder(clip, POOLED_WIDTH),
        "tokenizer": clip,
        "text_encoder_2": t5_encoder(t5, TEXT_WIDTH),
        "tokenizer_2": t5,
    }


def write_flux(folder: Path, pipeline: Any) -> None:
    """FLUX.1-dev under the name of a pipeline class with its components."""
    pipeline(**flux_parts()).save_pretrained(folder)


def write_flux_controlnet(folder: Path) -> None:
    """A ControlNet of one block each for the transformer; its last layers are random."""
    control = FluxControlNetModel(
        in_channels=4 * CHANNELS,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=POOLED_WIDTH,
        guidance_embeds=True,
        axes_dims_rope=[4, 6, 6],
    )
    for last in [*control.controlnet_blocks, *control.controlnet_single_blocks]:
        nn.init.normal_(last.weight, std=1.0)
    nn.init.normal_(control.controlnet_x_embedder.weight, std=1.0)
    control.save_pretrained(folder)


def write_redux(folder: Path) -> None:
    """SigLIP with its processor, and the layers from it to FLUX's text."""
    config = SiglipVisionConfig(
        hidden_size=SIGLIP_WIDTH,
        intermediate_size=SIGLIP_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    FluxPriorReduxPipeline(
        image_encoder=SiglipVisionModel(config),
        feature_extractor=SiglipImageProcessor(size={"height": 32, "width": 32}),
        image_embedder=ReduxImageEncoder(redux_dim=SIGLIP_WIDTH, txt_in_features=TEXT_WIDTH),
    ).save_pretrained(folder)
