"""The three networks of MTCNN (Zhang et al., arXiv 1604.02878) with the weights of `mtcnn` 1.0.0.

Layer sizes are those of the package (MIT licence), whose files hold Keras arrays.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from idbench.metrics.extractors.packaged import PackagedFile, WeightsError


class PNet(nn.Module):
    """Proposal network, fully convolutional: one cell per two pixels, each seeing 12 x 12."""

    def __init__(self) -> None:
        """Builds the layers without weights."""
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 10, 3),
            nn.PReLU(10),
            nn.MaxPool2d(2, 2, ceil_mode=True),
            nn.Conv2d(10, 16, 3),
            nn.PReLU(16),
            nn.Conv2d(16, 32, 3),
            nn.PReLU(32),
        )
        # The 1 x 1 convolutions as matrix products: oneDNN's depend on the number of threads.
        self.offsets = nn.Linear(32, 4)
        self.classes = nn.Linear(32, 2)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Face probability `batch rows columns` and box offsets `batch rows columns 4`."""
        features = self.features(image).permute(0, 2, 3, 1)
        return self.classes(features).softmax(dim=-1)[..., 1], self.offsets(features)


class RNet(nn.Module):
    """Refinement network on 24 x 24 crops."""

    def __init__(self) -> None:
        """Builds the layers without weights."""
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 28, 3),
            nn.PReLU(28),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.Conv2d(28, 48, 3),
            nn.PReLU(48),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(48, 64, 2),
            nn.PReLU(64),
        )
        self.hidden = nn.Sequential(nn.Linear(576, 128), nn.PReLU(128))
        self.offsets = nn.Linear(128, 4)
        self.classes = nn.Linear(128, 2)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Face probability `batch` and box offsets `batch 4`."""
        hidden = self.hidden(_flattened(self.features(crops)))
        return self.classes(hidden).softmax(dim=1)[:, 1], self.offsets(hidden)


class ONet(nn.Module):
    """Output network on 48 x 48 crops."""

    def __init__(self) -> None:
        """Builds the layers without weights."""
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 32, 3),
            nn.PReLU(32),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.Conv2d(32, 64, 3),
            nn.PReLU(64),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 64, 3),
            nn.PReLU(64),
            nn.MaxPool2d(2, 2, ceil_mode=True),
            nn.Conv2d(64, 128, 2),
            nn.PReLU(128),
        )
        self.hidden = nn.Sequential(nn.Linear(1152, 256), nn.PReLU(256))
        self.offsets = nn.Linear(256, 4)
        self.landmarks = nn.Linear(256, 10)
        self.classes = nn.Linear(256, 2)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Face probability `batch`, box offsets `batch 4`, landmarks `batch 10` (x then y)."""
        hidden = self.hidden(_flattened(self.features(crops)))
        face = self.classes(hidden).softmax(dim=1)[:, 1]
        return face, self.offsets(hidden), self.landmarks(hidden)


def load_weights(network: nn.Module, file: PackagedFile) -> None:
    """Fills a network with the arrays of a weight file, in the order of its layers.

    The file is a pickle, so its SHA-256 is checked before it is opened.

    Raises:
        WeightsError: If the file is absent, its content differs or an array does not fit.
    """
    import joblib

    arrays: list[NDArray[np.float32]] = joblib.load(file.verified())
    # Module order is layer order: both list weight, bias and slope layer by layer.
    parameters = list(network.parameters())
    with torch.no_grad():
        for parameter, array in zip(parameters, arrays, strict=True):
            values = torch.from_numpy(_from_keras(array))
            if values.shape != parameter.shape:
                raise WeightsError(
                    f"{file.path}: an array has shape {tuple(values.shape)}, "
                    f"the layer needs {tuple(parameter.shape)}"
                )
            parameter.copy_(values)
    network.eval().requires_grad_(False)


def _from_keras(array: NDArray[np.float32]) -> NDArray[np.float32]:
    if array.shape[:-2] == (1, 1):  # a 1 x 1 convolution, here a matrix product
        array = array[0, 0]
    if array.ndim == 4:  # height width in out
        return array.transpose(3, 2, 0, 1)
    if array.ndim == 2:  # in out
        return array.T
    return array.reshape(-1)


def _flattened(features: Tensor) -> Tensor:
    """Rows of `width height channels`: the package swaps height and width, channels come last."""
    return features.permute(0, 3, 2, 1).flatten(1)
