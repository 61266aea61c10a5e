"""OmniGen as a folder of diffusers."""

from pathlib import Path

from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    OmniGenPipeline,
    OmniGenTransformer2DModel,
)
from transformers import LlamaTokenizer

from idbench.methods.recipes.tiny.flux import CHANNELS, vae
from idbench.methods.recipes.tiny.texts import LETTERS

WIDTH = 32


def write_omnigen(folder: Path) -> None:
    """Two layers."""
    symbols = [*LETTERS, "▁", "<", ">", "|", "/", "_", "\n"]
    pieces = ["<unk>", "<s>", "</s>", *symbols, *(f"<0x{code:02X}>" for code in range(256))]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = LlamaTokenizer(vocab=vocabulary, merges=[], model_max_length=2048)
    OmniGenPipeline(
        transformer=OmniGenTransformer2DModel(
            in_channels=CHANNELS,
            hidden_size=WIDTH,
            num_attention_heads=4,
            num_key_value_heads=4,
            intermediate_size=WIDTH,
            num_layers=2,
            pad_token_id=0,
            vocab_size=len(tokenizer),
            max_position_embeddings=4096,
            rope_base=10000,
            rope_scaling={"long_factor": [1.0] * 4, "short_factor": [1.0] * 4},
            pos_embed_max_size=192,
            time_step_dim=16,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
        vae=vae(use_quant_conv=True, use_post_quant_conv=True, shift_factor=None),
        tokenizer=tokenizer,
    ).save_pretrained(folder)
