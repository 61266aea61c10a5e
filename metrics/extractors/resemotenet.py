"""ResEmoteNet: seven facial expressions.

Roy et al. (arXiv 2409.10545); ArnabKumarRoy02/ResEmoteNet, `best_model.pth`. The classifier that
DynamicID cites for Expr.
"""

from pathlib import Path

import numpy as np
import torch.nn.functional as F  # noqa: N812 (the name everyone knows)
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from idbench.metrics.extractors.checkpoint import (
    CheckpointError,
    load_strictly,
    read_pickle,
    unfilled,
)
from idbench.metrics.extractors.face_crop import CropRule
from idbench.metrics.extractors.face_network import FaceNetwork
from idbench.metrics.extractors.network import Network
from idbench.metrics.extractors.preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    normalised,
    stretched,
    to_unit,
)
from idbench.metrics.weights import WeightStore

# The order of upstream's eval_image.py.
CLASSES = ("happy", "surprise", "sad", "anger", "disgust", "fear", "neutral")
SIDE = 64


class _SqueezeExcite(nn.Module):
    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = channels // reduction
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden, bias=False),
            nn.ReLU(),
            nn.Linear(hidden, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        gain: Tensor = self.fc(x.mean((2, 3)))
        return x * gain[:, :, None, None]


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(2 * width)
        self.conv2 = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.shortcut = nn.Sequential(
            nn.Conv2d(width, 2 * width, 1, stride=2), nn.BatchNorm2d(2 * width)
        )

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(inner + self.shortcut(x))


class ResEmoteNet(nn.Module):
    """The network for faces of 64 pixels; keys as published.

    Args:
        classes: 7 for FER2013 and AffectNet-7; the released RAF-DB head may differ.
        width: Channels of the first layer; 64 as published.
    """

    def __init__(self, classes: int = len(CLASSES), width: int = 64) -> None:
        """Builds the network with random weights."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.conv3 = nn.Conv2d(2 * width, 4 * width, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.se = _SqueezeExcite(4 * width)
        self.res_block1 = _Residual(4 * width)
        self.res_block2 = _Residual(8 * width)
        self.res_block3 = _Residual(16 * width)
        self.fc1 = nn.Linear(32 * width, 16 * width)
        self.fc2 = nn.Linear(16 * width, 8 * width)
        self.fc3 = nn.Linear(8 * width, 4 * width)
        self.fc4 = nn.Linear(4 * width, classes)

    def forward(self, faces: Tensor) -> Tensor:
        """Logits `batch classes` of `batch 3 64 64`."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(faces))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        x = self.se(F.max_pool2d(F.relu(self.bn3(self.conv3(x))), 2))
        x = self.res_block3(self.res_block2(self.res_block1(x))).mean((2, 3))
        x = F.relu(self.fc3(F.relu(self.fc2(F.relu(self.fc1(x))))))
        logits: Tensor = self.fc4(x)
        return logits


def load_resemotenet(path: Path) -> nn.Module:
    """The network with the published weights, under the key `model_state_dict` of the file.

    Raises:
        CheckpointError: If the file is not that checkpoint, or has not the seven classes.
    """
    saved = read_pickle(path)
    if not isinstance(saved, dict) or "model_state_dict" not in saved:
        raise CheckpointError(f"{path} has no key 'model_state_dict'; expected best_model.pth")
    state = saved["model_state_dict"]
    classes = len(state["fc4.bias"]) if "fc4.bias" in state else 0
    if classes != len(CLASSES):
        raise CheckpointError(
            f"{path} has {classes} classes, Expr needs the {len(CLASSES)} of FER2013: "
            f"{', '.join(CLASSES)}"
        )
    width = len(state["conv1.bias"])
    return load_strictly(unfilled(lambda: ResEmoteNet(width=width)), state, path)


def resemotenet_input(face: NDArray[np.uint8]) -> Tensor:
    """A face crop as the network takes it: 64 x 64 stretched, grey, ImageNet statistics."""
    small = stretched(face, SIDE, Image.Resampling.BILINEAR)
    grey = np.asarray(Image.fromarray(small).convert("L"))
    grey = np.repeat(grey[:, :, None], 3, axis=2)
    return normalised(to_unit(grey), IMAGENET_MEAN, IMAGENET_STD)


def resemotenet(
    store: WeightStore,
    rule: CropRule,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    batch_size: int | None = None,
) -> FaceNetwork:
    """The extractor `resemotenet.<rule>`: `output` (n, 7), logits in the order of `CLASSES`.

    Raises:
        MissingWeightsError: If the weights are absent.
    """
    path = store.locate("resemotenet")
    return FaceNetwork(
        name="resemotenet",
        version=1,
        weights=store.digests("resemotenet"),
        network=Network(
            lambda: load_resemotenet(path), device=device, dtype=dtype, batch_size=batch_size
        ),
        prepare=resemotenet_input,
        rule=rule,
        shape=(len(CLASSES),),
    )
