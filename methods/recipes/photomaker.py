"""PhotoMaker v2: its file into an SDXL pipeline, and a prompt with the stacked identity.

Source: `PhotoMakerStableDiffusionXLPipeline` and `app_v2.py` of TencentARC/PhotoMaker. The class
word of the prompt ("man") is repeated for every token of the identity and replaced by it; the first
steps see the prompt alone. The official code marks the class word by the word "img" after it. Here
it is the class word of the reference, or the first word for a person, where there is no "img".
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessor

from idbench.methods.recipes.photomaker_encoder import IDEncoder, encoder_of
from idbench.methods.recipes.recipe import PhotoMaker

TRIGGER = "img"
CLASS_WORDS = ("man", "woman", "boy", "girl", "person", "lady", "guy", "male", "female")
MAX_MERGE_STEP = 30  # app_v2.py
ADAPTER = "photomaker"


def load_photomaker(pipe: Any, config: PhotoMaker, folder: Path, dtype: torch.dtype) -> IDEncoder:
    """Fuses the LoRA into the pipeline's UNet and returns the ID encoder, both of one file.

    Raises:
        OSError: If there is no such file.
        ValueError: If the file is none of PhotoMaker v2, or its LoRA does not fit the UNet.
    """
    file = folder / config.weight_name
    groups = torch.load(file, map_location="cpu", weights_only=True)
    if set(groups) != {"id_encoder", "lora_weights"}:
        raise ValueError(f"{file}: holds {', '.join(groups)} instead of id_encoder, lora_weights")
    encoder = encoder_of(groups["id_encoder"], file)
    lora = groups["lora_weights"]
    pipe.load_lora_weights(lora, adapter_name=ADAPTER)
    wanted = sum(key.endswith(("down.weight", "lora_A.weight")) for key in lora)
    parts = pipe.unet.modules()
    used = sum(ADAPTER in getattr(part, "lora_A", {}) for part in parts)
    if used != wanted:
        raise ValueError(f"{file}: a LoRA of {wanted} layers, of which {used} are in the UNet")
    pipe.fuse_lora(adapter_names=[ADAPTER])
    pipe.unload_lora_weights()
    return encoder.to(dtype)


def split_at_class(prompt: str, class_word: str | None) -> tuple[str, str]:
    """The prompt up to its class word, and what follows.

    A prompt without one is put behind "a photo of a person" or what `class_word` says.

    >>> split_at_class("a man img reads", None)
    ('a man', ' reads')
    >>> split_at_class("In Rome a woman reads", "woman")
    ('In Rome a woman', ' reads')
    >>> split_at_class("reading in Rome", None)
    ('a photo of a person', ', reading in Rome')
    """
    marked = re.search(rf"\s+{TRIGGER}\b", prompt)
    if marked and prompt[: marked.start()].strip():
        return prompt[: marked.start()], prompt[marked.end() :]
    words = (class_word,) if class_word else CLASS_WORDS
    pattern = "|".join(re.escape(word) for word in words)
    found = re.search(rf"\b({pattern})\b", prompt, re.IGNORECASE)
    if found:
        return prompt[: found.end()], prompt[found.end() :]
    return f"a photo of a {class_word or 'person'}", f", {prompt}"


def stacked_ids(
    tokenizer: Any, before: str, after: str, count: int
) -> tuple[list[int], list[bool]]:
    """Token ids in which the last word of `before` stands `count` times, and where that is.

    Like the official code, a prompt that is too long is cut without an end token.
    """
    first, second = (
        tokenizer(text, add_special_tokens=False).input_ids for text in (before, after)
    )
    start = len(first)  # of the class word: one token begins the text
    ids = [tokenizer.bos_token_id, *first, *first[-1:] * (count - 1), *second]
    ids.append(tokenizer.eos_token_id)
    length = tokenizer.model_max_length
    ids = ids[:length] + [tokenizer.pad_token_id] * (length - len(ids))
    return ids, [start <= place < start + count for place in range(length)]


def photomaker_arguments(
    pipe: Any,
    config: PhotoMaker,
    pictures: Sequence[Image.Image],
    face_embeds: Tensor,
    *,
    prompt: str,
    class_word: str | None,
    negative_prompt: str,
    num_inference_steps: int,
    guided: bool,
) -> dict[str, Any]:
    """Arguments of the call: the prompt alone, and a callback that brings the identity in.

    Args:
        pipe: With `id_encoder`.
        config: Of the recipe.
        pictures: References.
        face_embeds: Of their faces, as the recogniser gives them, (n, 512).
        prompt: Of the request.
        class_word: What the references show, if the suite says so.
        negative_prompt: Of the recipe.
        num_inference_steps: Of the call.
        guided: Whether there is classifier-free guidance.

    Raises:
        ValueError: If the class word and its copies do not fit into the prompt.
    """
    before, after = split_at_class(prompt, class_word)
    with torch.no_grad():
        alone, negative, pooled_alone, pooled_negative = pipe.encode_prompt(
            prompt=before + after,
            negative_prompt=negative_prompt,
            do_classifier_free_guidance=guided,
            device=pipe.device,
        )
        stacked, pooled = _stacked(pipe, pictures, face_embeds, before, after)
    if guided:
        stacked = torch.cat([negative, stacked])
        pooled = torch.cat([pooled_negative, pooled])
    merge_step = min(int(config.style_strength * num_inference_steps), MAX_MERGE_STEP)

    def bring_in(_pipe: Any, step: int, _time: Any, state: dict[str, Any]) -> dict[str, Any]:
        if step == merge_step:  # the next step is the first that sees it
            return {**state, "prompt_embeds": stacked, "add_text_embeds": pooled}
        return state

    return {
        "prompt_embeds": alone,
        "negative_prompt_embeds": negative,
        "pooled_prompt_embeds": pooled_alone,
        "negative_pooled_prompt_embeds": pooled_negative,
        "callback_on_step_end": bring_in,
        "callback_on_step_end_tensor_inputs": ["prompt_embeds", "add_text_embeds"],
    }


def _stacked(
    pipe: Any, pictures: Sequence[Image.Image], face_embeds: Tensor, before: str, after: str
) -> tuple[Tensor, Tensor]:
    """Embeddings (1, 77, width) with the identity in them, and the pooled ones (1, width)."""
    encoder: IDEncoder = pipe.id_encoder
    count = len(pictures) * encoder.tokens_per_reference
    parts = []
    for tokenizer, text_encoder in (
        (pipe.tokenizer, pipe.text_encoder),
        (pipe.tokenizer_2, pipe.text_encoder_2),
    ):
        ids, places = stacked_ids(tokenizer, before, after, count)
        if sum(places) < count:
            raise ValueError(
                f"the class word and its {count} tokens do not fit into {len(ids)} tokens: "
                f"{before!r} comes before"
            )
        answer = text_encoder(torch.tensor([ids], device=pipe.device), output_hidden_states=True)
        parts.append(answer.hidden_states[-2])
    # As in the official code, places and pooled output are those of the second encoder.
    mask = torch.tensor(places, device=pipe.device)
    dtype = parts[-1].dtype
    side = encoder.image_side
    processor = CLIPImageProcessor(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}
    )
    pixels = processor([picture.convert("RGB") for picture in pictures], return_tensors="pt")
    stacked = encoder(
        pixels.pixel_values.to(pipe.device, dtype),
        face_embeds.to(pipe.device, dtype),
        torch.cat(parts, dim=-1),
        mask,
    )
    return stacked, answer[0]
