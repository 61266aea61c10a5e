"""CLIP-IQA: how an image compares with pairs of opposite descriptions, by CLIP RN50.

Wang et al., Exploring CLIP for Assessing the Look and Feel of Images (arXiv 2207.12396). The
position embedding of the attention pool is left out, so that an image of any size is read without
a resize.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from idbench.metrics.extractors.clip_image import encode_image
from idbench.metrics.extractors.clip_network import clip_network, load_clip
from idbench.metrics.extractors.clip_text import ClipTokens, encode_text
from idbench.metrics.extractors.image_network import ImageNetwork
from idbench.metrics.extractors.preprocess import CLIP_MEAN, CLIP_STD, normalised, to_unit
from idbench.metrics.protocol import Features, Item, Missing
from idbench.metrics.weights import WeightStore

MODEL = "clip_rn50"

# Positive first. The first five pairs are pyiqa's `clipiqa`, the last is the original method's.
PROMPTS = (
    ("Good image", "bad image"),
    ("Sharp image", "blurry image"),
    ("sharp edges", "blurry edges"),
    ("High resolution image", "low resolution image"),
    ("Noise-free image", "noisy image"),
    ("Good photo.", "Bad photo."),
)


def load_without_positions(path: Path) -> nn.Module:
    """CLIP with a convolutional image tower whose attention pool knows no positions.

    Raises:
        CheckpointError: If the file is no CLIP model with such a tower.
    """
    module = load_clip(path)
    pool = getattr(module.visual, "attnpool", None)
    if pool is None:
        raise ValueError(f"{path} has no attention pool; CLIP-IQA needs CLIP RN50")
    # One row of zeros is added to every position alike.
    pool.positional_embedding = nn.Parameter(torch.zeros_like(pool.positional_embedding[:1]))
    return module


def clip_iqa_input(image: NDArray[np.uint8]) -> Tensor:
    """The image at its own size, with CLIP's statistics."""
    return normalised(to_unit(image), CLIP_MEAN, CLIP_STD)


class ClipIQA:
    """Features of an image: `similarities` (6, 2), `logit_scale` ().

    `similarities` are the cosines of the image with both texts of each pair of `PROMPTS`;
    `logit_scale` is what CLIP multiplies cosines with before a softmax.
    """

    name = "clip_iqa"
    needs: tuple[str, ...] = ()
    reads: Literal["image"] = "image"
    version = 1

    def __init__(
        self,
        store: WeightStore,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        batch_size: int | None = None,
    ) -> None:
        """Finds the weights; they are read by the first call.

        Raises:
            MissingWeightsError: If the weights are absent.
        """
        self._network = clip_network(
            store,
            MODEL,
            device=device,
            dtype=dtype,
            batch_size=batch_size,
            load=load_without_positions,
        )
        self._images = ImageNetwork(
            name=self.name,
            version=self.version,
            weights=store.digests(MODEL),
            network=self._network,
            prepare=clip_iqa_input,
            preprocessing="native size",
            forward=encode_image,
        )
        self._texts: Tensor | None = None

    def fingerprint(self) -> Mapping[str, object]:
        """Version, weights, prompts and arithmetic."""
        return {**self._images.fingerprint(), "prompts": [list(pair) for pair in PROMPTS]}

    def release(self) -> None:
        """Frees the network."""
        self._network.release()

    def __call__(self, items: Sequence[Item]) -> list[Features | Missing]:
        """The similarities of each image."""
        texts = self._text_directions()
        scale = cast("Tensor", self._network.module.logit_scale).float().exp().cpu().numpy()
        results: list[Features | Missing] = []
        for found in self._images(items):
            if isinstance(found, Missing):
                results.append(found)
                continue
            image = nn.functional.normalize(torch.from_numpy(found["output"]), dim=0)
            similarities = (texts @ image).numpy().reshape(len(PROMPTS), 2)
            results.append({"similarities": similarities, "logit_scale": scale})
        return results

    def _text_directions(self) -> Tensor:
        if self._texts is None:
            tokens = ClipTokens()
            rows = [torch.tensor(tokens.truncated(text)) for pair in PROMPTS for text in pair]
            forward: Callable[[nn.Module, Tensor], Tensor] = encode_text
            embeddings = torch.stack(self._network(rows, forward))
            self._texts = nn.functional.normalize(embeddings, dim=1)
        return self._texts
