"""ImageReward: how much people would like an image for a prompt.

Xu et al. (arXiv 2304.05977), ImageReward-v1.0: BLIP's ViT-L/16 and image-grounded text encoder, and
an MLP without activations on its first token. The paper of EditedID calls the backbone a ResNet-50;
the released model is not.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from idbench.metrics.extractors.blip import BlipTextEncoder
from idbench.metrics.extractors.checkpoint import (
    CheckpointError,
    load_strictly,
    read_pickle,
    unfilled,
)
from idbench.metrics.extractors.items import image_of, text_of
from idbench.metrics.extractors.network import Network
from idbench.metrics.extractors.preprocess import clip_pil
from idbench.metrics.protocol import Features, Item, Missing
from idbench.metrics.weights import WeightStore

MAX_TOKENS = 35
HEAD_WIDTH = 64
# The published file has these too; contrastive training used them, the reward does not.
UNUSED = (
    "blip.vision_proj.",
    "blip.text_proj.",
    "blip.text_encoder.embeddings.position_ids",
    "image_embeds.position_ids",
)


class _Blip(nn.Module):
    def __init__(self, visual: nn.Module, text: nn.Module) -> None:
        super().__init__()
        self.visual_encoder = visual
        self.text_encoder = text


class _RewardHead(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        # The numbers are those of the file, whose dropouts count too.
        sizes = {0: (width, 1024), 2: (1024, 128), 4: (128, 64), 6: (64, 16), 7: (16, 1)}
        self.layers = nn.ModuleDict({str(k): nn.Linear(*size) for k, size in sizes.items()})

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers.values():
            x = layer(x)
        return x


class ImageRewardModule(nn.Module):
    """The reward model; keys as published.

    Args:
        config: `med_config.json`.
        vocabulary: Rows of the word embedding.
        image_size: Side of the input.
        patch: Side of a patch.
        image_width: Width of the image tower, 1024 as published.
        image_layers: Layers of the image tower, 24 as published.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        vocabulary: int,
        image_size: int = 224,
        patch: int = 16,
        image_width: int = 1024,
        image_layers: int = 24,
    ) -> None:
        """Builds the network with random weights."""
        super().__init__()
        visual = VisionTransformer(
            img_size=image_size,
            patch_size=patch,
            embed_dim=image_width,
            depth=image_layers,
            num_heads=image_width // HEAD_WIDTH,
            num_classes=0,
            global_pool="",
        )
        text = BlipTextEncoder(
            vocabulary=vocabulary,
            width=config["hidden_size"],
            inner=config["intermediate_size"],
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            image_width=image_width,
        )
        self.blip = _Blip(visual, text)
        self.mlp = _RewardHead(config["hidden_size"])

    def forward(self, images: Tensor, ids: Tensor, visible: Tensor) -> Tensor:
        """Rewards `batch 1`, before they are standardised."""
        tokens = self.blip.text_encoder(ids, visible, self.blip.visual_encoder(images))
        reward: Tensor = self.mlp(tokens[:, 0])
        return reward


def load_image_reward(weights: Path, config: Path) -> nn.Module:
    """The reward model with the published weights; sizes follow from the files.

    Raises:
        CheckpointError: If the files do not fit one another.
    """
    state: dict[str, Tensor] = read_pickle(weights)
    prefix = "blip.visual_encoder."
    try:
        width, _, _, patch = state[f"{prefix}patch_embed.proj.weight"].shape
        tokens = state[f"{prefix}pos_embed"].shape[1] - 1
        vocabulary = len(state["blip.text_encoder.embeddings.word_embeddings.weight"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{weights} is no state dict of ImageReward-v1.0") from error
    blocks = {key.split(".")[3] for key in state if key.startswith(f"{prefix}blocks.")}
    text_config = json.loads(config.read_text("utf-8"))
    module = unfilled(
        lambda: ImageRewardModule(
            text_config,
            vocabulary=vocabulary,
            image_size=round(tokens**0.5) * patch,
            patch=patch,
            image_width=width,
            image_layers=len(blocks),
        )
    )
    return load_strictly(module, state, weights, unused=UNUSED)


class ImageReward:
    """Features of an image and its prompt: `reward` (), before it is standardised.

    The prompt is cut off after 35 tokens, as by the authors.
    """

    name = "image_reward"
    needs: tuple[str, ...] = ()
    reads: Literal["image_text"] = "image_text"
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
            MissingWeightsError: If a file is absent.
        """
        weights = store.locate("imagereward", "ImageReward.pt")
        config = store.locate("imagereward", "med_config.json")
        self._vocabulary = store.locate("imagereward", "vocab.txt")
        self._digests = store.digests("imagereward")
        self._network = Network(
            lambda: load_image_reward(weights, config),
            device=device,
            dtype=dtype,
            batch_size=batch_size,
        )

    def fingerprint(self) -> Mapping[str, object]:
        """Version, weights and arithmetic."""
        return {
            "name": self.name,
            "version": self.version,
            "weights": self._digests,
            "max_tokens": MAX_TOKENS,
            "dtype": self._network.dtype_name,
        }

    def release(self) -> None:
        """Frees the network."""
        self._network.release()

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import BertTokenizer

        return BertTokenizer(str(self._vocabulary), do_lower_case=True)

    def __call__(self, items: Sequence[Item]) -> list[Features | Missing]:
        """The reward of each image for its prompt."""
        texts = self._tokenizer(
            [text_of(item) for item in items],
            padding="max_length",
            truncation=True,
            max_length=MAX_TOKENS,
        )
        side = self._side()
        inputs = [
            (
                clip_pil(image_of(item), side),
                torch.tensor(ids),
                torch.tensor(mask, dtype=torch.bool),
            )
            for item, ids, mask in zip(
                items, texts["input_ids"], texts["attention_mask"], strict=True
            )
        ]
        outputs = self._network(inputs, _reward)
        return [{"reward": np.asarray(output[0].numpy())} for output in outputs]

    def _side(self) -> int:
        visual = self._network.module.get_submodule("blip.visual_encoder.patch_embed")
        return int(visual.img_size[0])  # type: ignore[index]


def _reward(module: nn.Module, images: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    rewards: Tensor = module(images, ids, mask)
    return rewards
