"""InceptionV3 with the weights of the original FID code, as pytorch-fid publishes them.

Heusel et al. (arXiv 1706.08500); `pt_inception-2015-12-05-6726825d.pth` of mseitzer/pytorch-fid.
The TensorFlow graph that those weights come from differs from torchvision's InceptionV3 in its
pooling layers, and a value with torchvision's pooling is no FID.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the name everyone knows)
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.inception import Inception3, InceptionA, InceptionC, InceptionE

from idbench.metrics.extractors.checkpoint import load_strictly, read_pickle, unfilled
from idbench.metrics.extractors.image_network import ImageNetwork
from idbench.metrics.extractors.network import Network
from idbench.metrics.extractors.preprocess import to_unit
from idbench.metrics.weights import WeightStore

CLASSES = 1008
SIDE = 299


def _average(x: Tensor) -> Tensor:
    # The border is left out of the mean; torchvision counts it as zeros.
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class _FidA(InceptionA):  # type: ignore[misc]  # no types
    def _forward(self, x: Tensor) -> list[Tensor]:
        return [
            self.branch1x1(x),
            self.branch5x5_2(self.branch5x5_1(x)),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
            self.branch_pool(_average(x)),
        ]


class _FidC(InceptionC):  # type: ignore[misc]  # no types
    def _forward(self, x: Tensor) -> list[Tensor]:
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        return [
            self.branch1x1(x),
            self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x))),
            self.branch7x7dbl_5(self.branch7x7dbl_4(double)),
            self.branch_pool(_average(x)),
        ]


class _FidE(InceptionE):  # type: ignore[misc]  # no types
    def _forward(self, x: Tensor) -> list[Tensor]:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        return [
            self.branch1x1(x),
            torch.cat([self.branch3x3_2a(single), self.branch3x3_2b(single)], 1),
            torch.cat([self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)], 1),
            self.branch_pool(self._pooled(x)),
        ]

    def _pooled(self, x: Tensor) -> Tensor:
        return _average(x)


class _FidLastE(_FidE):
    def _pooled(self, x: Tensor) -> Tensor:
        # The last block takes a maximum where the others take a mean.
        return F.max_pool2d(x, 3, stride=1, padding=1)


class FidInception(Inception3):  # type: ignore[misc]  # no types
    """InceptionV3 up to the 2048 pooled features; keys as in the published file."""

    def __init__(self) -> None:
        """Builds the network with random weights."""
        super().__init__(
            num_classes=CLASSES, aux_logits=False, transform_input=False, init_weights=False
        )
        self.Mixed_5b = _FidA(192, pool_features=32)
        self.Mixed_5c = _FidA(256, pool_features=64)
        self.Mixed_5d = _FidA(288, pool_features=64)
        self.Mixed_6b = _FidC(768, channels_7x7=128)
        self.Mixed_6c = _FidC(768, channels_7x7=160)
        self.Mixed_6d = _FidC(768, channels_7x7=160)
        self.Mixed_6e = _FidC(768, channels_7x7=192)
        self.Mixed_7b = _FidE(1280)
        self.Mixed_7c = _FidLastE(2048)

    def forward(self, images: Tensor) -> Tensor:
        """Pooled features `batch 2048` of `batch 3 299 299` in [-1, 1]."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(images)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, stride=2)))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))
        x = self.Mixed_6e(self.Mixed_6d(x))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return F.adaptive_avg_pool2d(x, 1).flatten(1)


def inception_input(image: NDArray[np.uint8]) -> Tensor:
    """An RGB image as the network takes it: 299 px bilinear without antialias, in [-1, 1]."""
    unit = to_unit(image)[None]
    resized = F.interpolate(unit, (SIDE, SIDE), mode="bilinear", align_corners=False)
    return resized[0] * 2 - 1


def load_inception(path: Path) -> nn.Module:
    """The network with the published weights.

    Raises:
        CheckpointError: If the file is not that state dict.
    """
    return load_strictly(unfilled(FidInception), read_pickle(path), path)


def inception(
    store: WeightStore,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    batch_size: int | None = None,
) -> ImageNetwork:
    """The extractor `inception`: `output` (2048,), pooled features, non-negative.

    Raises:
        MissingWeightsError: If the weights are absent.
    """
    path = store.locate("inception")
    return ImageNetwork(
        name="inception",
        version=1,
        weights=store.digests("inception"),
        network=Network(
            lambda: load_inception(path), device=device, dtype=dtype, batch_size=batch_size
        ),
        prepare=inception_input,
        preprocessing="bilinear 299, [-1, 1]",
    )
