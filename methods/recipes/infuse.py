"""InfiniteYou's identity: a face to tokens that a FLUX ControlNet (InfuseNet) reads as its text.

Source: `InfUFluxPipeline` of bytedance/InfiniteYou (pipelines/pipeline_infu_flux.py, commit
27d41af): antelopev2 finds the face, facexlib's ArcFace (IR-SE 50) embeds the aligned crop of 112
pixels in BGR, a resampler makes eight tokens of it. The ControlNet is given the tokens in place of
the prompt, position ids of zero, and a guidance of 1.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from idbench.methods.common.insight_faces import FoundFace, aligned_crop
from idbench.methods.common.state_dicts import load_strictly
from idbench.methods.recipes.perceiver_resampler import LearnedResampler, count_after
from idbench.methods.recipes.recipe import Infuse

CROP_SIZE = 112
HEAD_WIDTH = 64
CONTROLNET_GUIDANCE = 1.0


class InfuseIdentity(nn.Module):
    """Both networks: the recogniser, which stays in float32, and the resampler."""

    def __init__(self, recogniser: nn.Module, resampler: LearnedResampler) -> None:
        """Keeps them."""
        super().__init__()
        self.recogniser = recogniser
        self.resampler = resampler

    @torch.no_grad()
    def forward(self, picture: Image.Image, face: FoundFace) -> Tensor:
        """Identity tokens of a face, (1, tokens, width)."""
        crop = np.asarray(aligned_crop(picture, face, CROP_SIZE))[:, :, ::-1].copy()
        pixels = torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 127.5 - 1
        pixels = pixels.contiguous()  # facexlib's network flattens by a view
        weight = self.resampler.proj_in.weight
        embedding = self.recogniser(pixels.to(weight.device))  # (1, 512), of length 1
        return self.resampler.of(embedding[:, None].to(weight.dtype))


def load_infuse(
    config: Infuse, folders: Mapping[str, Path], device: str, dtype: torch.dtype
) -> InfuseIdentity:
    """Both networks from their released files.

    Raises:
        OSError: If a file is absent.
        ValueError: If a file has other keys than it must have; the message names them.
    """
    from facexlib.recognition.arcface_arch import Backbone

    recogniser = Backbone(num_layers=50, drop_ratio=0.6, mode="ir_se")
    path = folders[config.recogniser_weights] / config.recogniser_name
    state = torch.load(path, map_location="cpu", weights_only=True)
    load_strictly(recogniser, state, path)
    path = folders[config.weights] / config.weight_name
    groups = torch.load(path, map_location="cpu", weights_only=True)
    if "image_proj" not in groups:
        raise ValueError(f"{path}: holds {', '.join(groups)} instead of image_proj")
    resampler = resampler_of(groups["image_proj"], path).to(dtype)
    return InfuseIdentity(recogniser, resampler).eval().to(device)


def resampler_of(state: Mapping[str, Tensor], source: str | Path) -> LearnedResampler:
    """The resampler of a file's `image_proj`, its sizes those of the tensors.

    Raises:
        ValueError: If keys are missing or left over; `source` begins the message.
    """
    try:
        resampler = LearnedResampler(
            tokens=state["latents"].shape[1],
            inputs=state["proj_in.weight"].shape[1],
            width=state["proj_in.weight"].shape[0],
            outputs=state["proj_out.weight"].shape[0],
            heads=state["layers.0.0.to_q.weight"].shape[0] // HEAD_WIDTH,
            head_width=HEAD_WIDTH,
            depth=count_after(state, "layers."),
        )
    except KeyError as error:
        raise ValueError(f"{source}: not InfiniteYou's resampler; no {error}") from error
    load_strictly(resampler, state, source)
    return resampler


@contextmanager
def controlnet_reading_identity(pipe: Any, tokens: Tensor) -> Iterator[None]:
    """Meanwhile the FLUX ControlNet of a pipeline is given `tokens` in place of the prompt."""

    def swap(_module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        guidance = kwargs["guidance"]
        changed = {
            "encoder_hidden_states": tokens,
            "txt_ids": torch.zeros(tokens.shape[1], 3, device=tokens.device, dtype=tokens.dtype),
            "guidance": (
                None if guidance is None else torch.full_like(guidance, CONTROLNET_GUIDANCE)
            ),
        }
        return args, {**kwargs, **changed}

    handle = pipe.controlnet.register_forward_pre_hook(swap, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
