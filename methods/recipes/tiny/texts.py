"""Tokenizers that know single characters or bytes, and small text encoders."""

from typing import Any

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,'-"


def clip_tokenizer() -> Any:
    """Bytes and bytes that end a word, without merges; 77 tokens."""
    symbols = sorted(ByteLevel.alphabet())
    pieces = [*symbols, *(f"{symbol}</w>" for symbol in symbols)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def clip_text_encoder(tokenizer: Any, width: int, *, projection: bool = False) -> Any:
    """Two layers; with a projection for the second encoder of SDXL."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


def t5_tokenizer() -> Any:
    """Letters, digits and some punctuation; 512 tokens."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(letter, -3.0) for letter in LETTERS]
    pieces += [(f"<extra_id_{index}>", 0.0) for index in range(99, -1, -1)]
    return T5TokenizerFast(vocab=pieces, model_max_length=512)


def t5_encoder(tokenizer: Any, width: int) -> Any:
    """Two layers."""
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=width,
        d_kv=8,
        d_ff=2 * width,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return T5EncoderModel(config)


def byte_tokenizer(
    specials: list[str],
    *,
    first: tuple[str, ...] = (),
    klass: Any = PreTrainedTokenizerFast,
    **named: Any,
) -> Any:
    """Bytes without merges.

    Args:
        specials: Tokens that are never split, numbered after the bytes.
        first: Tokens numbered before the bytes.
        klass: Of transformers.
        named: Further arguments, such as `pad_token` and `chat_template`.
    """
    pieces = [*first, *sorted(ByteLevel.alphabet()), *specials]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    if klass is not PreTrainedTokenizerFast:
        return klass(vocab=vocabulary, merges=[], additional_special_tokens=specials, **named)
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens([*first, *specials])
    return klass(tokenizer_object=tokenizer, additional_special_tokens=specials, **named)
