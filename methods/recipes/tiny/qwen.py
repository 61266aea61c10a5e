"""Qwen-Image-Edit as a folder of diffusers, with Qwen2.5-VL and its processor."""

from pathlib import Path
from typing import Any

from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageTransformer2DModel,
)
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

from idbench.methods.recipes.tiny.texts import byte_tokenizer

TEXT_WIDTH = 16
CHANNELS = 16  # of latents: their means and deviations are in the configuration
SPECIALS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]


def write_qwen_edit(folder: Path, pipeline: Any) -> None:
    """One block, under the name of a pipeline class with these components."""
    tokenizer = byte_tokenizer(
        SPECIALS, klass=Qwen2Tokenizer, pad_token="<|endoftext|>", eos_token="<|im_end|>"
    )
    processor = Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
    )
    pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
        vae=AutoencoderKLQwenImage(
            base_dim=4,
            z_dim=CHANNELS,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
            latents_mean=[0.0] * CHANNELS,
            latents_std=[1.0] * CHANNELS,
        ),
        text_encoder=_text_encoder(tokenizer),
        tokenizer=tokenizer,
        processor=processor,
        transformer=QwenImageTransformer2DModel(
            in_channels=4 * CHANNELS,
            out_channels=CHANNELS,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=TEXT_WIDTH,
            axes_dims_rope=(4, 6, 6),
        ),
    ).save_pretrained(folder)


def _text_encoder(tokenizer: Any) -> Any:
    identifiers = dict(zip(SPECIALS, tokenizer.convert_tokens_to_ids(SPECIALS), strict=True))
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": TEXT_WIDTH,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2], "rope_type": "default"},
            "rope_theta": 1000000.0,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": TEXT_WIDTH,
            "fullatt_block_indexes": [0],
        },
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        vision_start_token_id=identifiers["<|vision_start|>"],
        vision_end_token_id=identifiers["<|vision_end|>"],
        image_token_id=identifiers["<|image_pad|>"],
        video_token_id=identifiers["<|video_pad|>"],
    )
    return Qwen2_5_VLForConditionalGeneration(config)
