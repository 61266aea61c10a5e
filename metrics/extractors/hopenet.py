"""Hopenet: yaw, pitch and roll of a face as 66 bins of 3 degrees each.

Ruiz et al., Fine-Grained Head Pose Estimation Without Keypoints (arXiv 1710.00925); weights
`hopenet_robust_alpha1.pkl` of natanielruiz/deep-head-pose, the estimator of IBench's Posediv.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

from idbench.metrics.extractors.checkpoint import load_strictly, read_pickle, unfilled
from idbench.metrics.extractors.face_crop import CropRule
from idbench.metrics.extractors.face_network import FaceNetwork
from idbench.metrics.extractors.network import Network
from idbench.metrics.extractors.preprocess import hopenet as hopenet_input
from idbench.metrics.weights import WeightStore

BINS = 66


class HopenetModule(ResNet):  # type: ignore[misc]  # no types
    """ResNet-50 with three heads of 66 bins; the keys are those of the published state dict.

    `fc_finetune` belongs to the published file and takes no part in the angles.
    """

    def __init__(self) -> None:
        """Builds the network with random weights."""
        super().__init__(Bottleneck, [3, 4, 6, 3])
        width = self.fc.in_features
        del self.fc
        self.avgpool = nn.AvgPool2d(7)
        self.fc_yaw = nn.Linear(width, BINS)
        self.fc_pitch = nn.Linear(width, BINS)
        self.fc_roll = nn.Linear(width, BINS)
        self.fc_finetune = nn.Linear(width + 3, 3)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `batch 3 66` in the order yaw, pitch, roll, of `batch 3 224 224`."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = self.avgpool(x).flatten(1)
        return torch.stack([self.fc_yaw(x), self.fc_pitch(x), self.fc_roll(x)], dim=1)


def load_hopenet(path: Path) -> nn.Module:
    """The network with the published weights.

    Raises:
        CheckpointError: If the file is not that state dict.
    """
    return load_strictly(unfilled(HopenetModule), read_pickle(path), path)


def hopenet(
    store: WeightStore,
    rule: CropRule,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    batch_size: int | None = None,
) -> FaceNetwork:
    """The extractor `hopenet.<rule>`: `output` (n, 3, 66), logits of yaw, pitch, roll per crop.

    Raises:
        MissingWeightsError: If the weights are absent.
    """
    path = store.locate("hopenet")
    return FaceNetwork(
        name="hopenet",
        version=1,
        weights=store.digests("hopenet"),
        network=Network(
            lambda: load_hopenet(path), device=device, dtype=dtype, batch_size=batch_size
        ),
        prepare=hopenet_input,
        rule=rule,
        shape=(3, BINS),
    )
