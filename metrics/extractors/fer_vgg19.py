"""VGG19 trained on FER2013: seven facial expressions.

WuJie1010/Facial-Expression-Recognition.Pytorch, `PrivateTest_model.t7`; the classifier of IBench's
Exprdiv. Logits are averaged over ten crops of 44 pixels.
"""

from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
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
from idbench.metrics.extractors.preprocess import ten_crops
from idbench.metrics.weights import WeightStore

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
CROP = 44
FACE = 48

# Channels of the convolutions between poolings.
_STAGES = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)


class FerVGG19(nn.Module):
    """VGG19 with batch normalisation for 44-pixel crops, keys as published."""

    def __init__(self, classes: int = len(CLASSES)) -> None:
        """Builds the network with random weights."""
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for stage in _STAGES:
            for width in stage:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width)]
                layers += [nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, crops: Tensor) -> Tensor:
        """Logits `batch classes`, the mean over the crops of `batch crops 3 44 44`."""
        batch, number = crops.shape[:2]
        features = self.features(crops.flatten(0, 1)).flatten(1)
        logits: Tensor = self.classifier(features)
        return logits.reshape(batch, number, -1).mean(1)


def load_fer_vgg19(path: Path) -> nn.Module:
    """The network with the published weights, under the key `net` of the file.

    Raises:
        CheckpointError: If the file is not that checkpoint.
    """
    saved = read_pickle(path)
    if not isinstance(saved, dict) or "net" not in saved:
        raise CheckpointError(f"{path} has no key 'net'; expected PrivateTest_model.t7")
    # Saved from a DataParallel model by some forks.
    state = {key.removeprefix("module."): value for key, value in saved["net"].items()}
    return load_strictly(unfilled(FerVGG19), state, path)


def grey_face(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The classifier's own input: luma, 48 x 48 bilinear, three equal channels.

    Upstream's `visualize.py` weighs 0.299, 0.587, 0.114 and truncates to whole numbers after the
    resize; so does this, with Pillow's antialiased resize in place of scikit-image's.
    """
    luma = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    small = Image.fromarray(luma).resize((FACE, FACE), Image.Resampling.BILINEAR)
    grey = np.clip(np.asarray(small), 0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def strict_input(image: NDArray[np.uint8]) -> Tensor:
    """Ten crops of the grey 48-pixel face, `10 3 44 44`."""
    return ten_crops(grey_face(image), CROP)


def fer_vgg19(
    store: WeightStore,
    rule: CropRule,
    *,
    preprocessing: Literal["ibench", "strict"],
    device: str = "cpu",
    dtype: str = "float32",
    batch_size: int | None = None,
) -> FaceNetwork:
    """The extractor `fer-vgg19.<rule>`: `output` (n, 7), mean logits in the order of `CLASSES`.

    `ibench` takes ten 44-pixel crops of the colour picture at its own resolution, which shows the
    network corners and the centre of a face; a picture with a side below 44 is missing. `strict`
    is the classifier's own preprocessing.

    Raises:
        MissingWeightsError: If the weights are absent.
    """
    path = store.locate("fer_vgg19")
    return FaceNetwork(
        name="fer-vgg19",
        version=1,
        weights=store.digests("fer_vgg19") | {"preprocessing": preprocessing},
        network=Network(
            lambda: load_fer_vgg19(path),
            device=device,
            dtype=dtype,
            batch_size=batch_size,
        ),
        prepare=partial(ten_crops, side=CROP) if preprocessing == "ibench" else strict_input,
        rule=rule,
        shape=(len(CLASSES),),
    )
