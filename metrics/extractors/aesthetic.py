"""The LAION aesthetic predictors: a linear head and an MLP on CLIP ViT-L/14 embeddings.

LAION-AI/aesthetic-predictor `sa_0_4_vit_l_14_linear.pth` and christophschuhmann/
improved-aesthetic-predictor `sac+logos+ava1-l14-linearMSE.pth`. The MLP has no activations: it is
linear too, of another fit.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from idbench.metrics.extractors.checkpoint import load_strictly, read_pickle
from idbench.metrics.extractors.items import features_of
from idbench.metrics.extractors.network import Network
from idbench.metrics.protocol import Features, Item, Missing
from idbench.metrics.weights import WeightStore

WIDTH = 768
Head = Literal["aes_linear", "aes_mlp"]


class AestheticLinear(nn.Linear):
    """The linear head; keys `weight` and `bias`."""

    def __init__(self) -> None:
        """Builds the head with random weights."""
        super().__init__(WIDTH, 1)


class AestheticMLP(nn.Module):
    """The MLP head; the numbers of its layers are those of the file, which skips dropouts."""

    def __init__(self) -> None:
        """Builds the head with random weights."""
        super().__init__()
        sizes = {0: (WIDTH, 1024), 2: (1024, 128), 4: (128, 64), 6: (64, 16), 7: (16, 1)}
        self.layers = nn.ModuleDict({str(k): nn.Linear(*size) for k, size in sizes.items()})

    def forward(self, embeddings: Tensor) -> Tensor:
        """Scores `batch 1`."""
        for layer in self.layers.values():
            embeddings = layer(embeddings)
        return embeddings


def load_head(key: Head, path: Path) -> nn.Module:
    """A head with the published weights.

    Raises:
        CheckpointError: If the file is not that head.
    """
    module = AestheticLinear() if key == "aes_linear" else AestheticMLP()
    return load_strictly(module, read_pickle(path), path)


def unit_vector(embedding: NDArray[np.floating]) -> NDArray[np.float32]:
    """The embedding at length 1, float32."""
    vector = np.asarray(embedding, np.float32)
    return vector / np.linalg.norm(vector)


class Aesthetic:
    """Features of an image: `score` (), the raw score, about 1 to 10 and unbounded.

    Args:
        store: Where the weights lie.
        head: "aes_linear" or "aes_mlp".
        clip: The CLIP ViT-L/14 image extractor whose embedding is scored; its preprocessing
            changes the score.
        device: Where the head runs.
        dtype: Arithmetic of the head.
    """

    reads: Literal["image"] = "image"
    version = 1

    def __init__(
        self,
        store: WeightStore,
        *,
        head: Head,
        clip: str,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        """Finds the weights; they are read by the first call.

        Raises:
            MissingWeightsError: If the weights are absent.
        """
        path = store.locate(head)
        suffix = clip.removeprefix("clip_l14.image")
        self.name = f"{head}{suffix}"
        self.needs = (clip,)
        self._digests = store.digests(head)
        self._network = Network(
            lambda: load_head(head, path), device=device, dtype=dtype, batch_size=1
        )

    def fingerprint(self) -> Mapping[str, object]:
        """Version, weights and arithmetic."""
        return {
            "name": self.name,
            "version": self.version,
            "weights": self._digests,
            "dtype": self._network.dtype_name,
        }

    def release(self) -> None:
        """Frees the head."""
        self._network.release()

    def __call__(self, items: Sequence[Item]) -> list[Features | Missing]:
        """The score of each image."""
        vectors = [
            torch.from_numpy(unit_vector(features_of(item, self.needs[0])["output"]))
            for item in items
        ]
        return [{"score": output[0].numpy()} for output in self._network(vectors)]
