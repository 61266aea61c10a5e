"""FaceNet: InceptionResnetV1 trained on VGGFace2, which FastComposer's FaceSim compares.

Schroff et al. (arXiv 1503.03832); `20180402-114759-vggface2.pt` of timesler/facenet-pytorch,
whose keys these are. The package itself pins old versions of torch and numpy.
"""

from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the name everyone knows)
from numpy.typing import NDArray
from torch import Tensor, nn

from idbench.metrics.extractors.checkpoint import load_strictly, read_pickle, unfilled
from idbench.metrics.extractors.face_crop import EveryFace
from idbench.metrics.extractors.face_network import FaceNetwork
from idbench.metrics.extractors.network import Network
from idbench.metrics.weights import WeightStore

SIDE = 160
WIDTH = 512

Kernel = int | tuple[int, int]


class _Conv(nn.Module):
    """Convolution without bias, batch norm, ReLU; odd kernels of stride 1 may keep the size."""

    def __init__(
        self, inputs: int, outputs: int, kernel: Kernel, *, stride: int = 1, same: bool = False
    ) -> None:
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2) if same else 0
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Block(nn.Module):
    """A residual block: parallel branches, joined by a 1 x 1 convolution and scaled."""

    def __init__(self, branches: list[nn.Module], joined: int, width: int, scale: float) -> None:
        super().__init__()
        for index, branch in enumerate(branches):
            self.add_module(f"branch{index}", branch)
        self.conv2d = nn.Conv2d(joined, width, 1)
        self._count = len(branches)
        self._scale = scale
        self.last = False

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.get_submodule(f"branch{index}")(x) for index in range(self._count)]
        y = self.conv2d(torch.cat(parts, 1)) * self._scale + x
        return y if self.last else F.relu(y)


class _Reduction(nn.Module):
    """Parallel branches and a max pooling that halve the size."""

    def __init__(self, branches: list[nn.Module]) -> None:
        super().__init__()
        for index, branch in enumerate(branches):
            self.add_module(f"branch{index}", branch)
        self._count = len(branches)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.get_submodule(f"branch{index}")(x) for index in range(self._count)]
        return torch.cat([*parts, F.max_pool2d(x, 3, stride=2)], 1)


def _block35() -> nn.Module:
    branches: list[nn.Module] = [
        _Conv(256, 32, 1),
        nn.Sequential(_Conv(256, 32, 1), _Conv(32, 32, 3, same=True)),
        nn.Sequential(_Conv(256, 32, 1), _Conv(32, 32, 3, same=True), _Conv(32, 32, 3, same=True)),
    ]
    return _Block(branches, 96, 256, scale=0.17)


def _block17() -> nn.Module:
    narrow = nn.Sequential(
        _Conv(896, 128, 1), _Conv(128, 128, (1, 7), same=True), _Conv(128, 128, (7, 1), same=True)
    )
    return _Block([_Conv(896, 128, 1), narrow], 256, 896, scale=0.10)


def _block8(scale: float) -> _Block:
    narrow = nn.Sequential(
        _Conv(1792, 192, 1), _Conv(192, 192, (1, 3), same=True), _Conv(192, 192, (3, 1), same=True)
    )
    return _Block([_Conv(1792, 192, 1), narrow], 384, 1792, scale=scale)


class InceptionResnetV1(nn.Module):
    """Face embeddings of unit length; keys as published.

    The published file also has the classifier of VGGFace2 (`logits`), which no embedding needs.
    """

    def __init__(self) -> None:
        """Builds the network with random weights."""
        super().__init__()
        self.conv2d_1a = _Conv(3, 32, 3, stride=2)
        self.conv2d_2a = _Conv(32, 32, 3)
        self.conv2d_2b = _Conv(32, 64, 3, same=True)
        self.conv2d_3b = _Conv(64, 80, 1)
        self.conv2d_4a = _Conv(80, 192, 3)
        self.conv2d_4b = _Conv(192, 256, 3, stride=2)
        self.repeat_1 = nn.Sequential(*(_block35() for _ in range(5)))
        self.mixed_6a = _Reduction(
            [
                _Conv(256, 384, 3, stride=2),
                nn.Sequential(
                    _Conv(256, 192, 1), _Conv(192, 192, 3, same=True), _Conv(192, 256, 3, stride=2)
                ),
            ]
        )
        self.repeat_2 = nn.Sequential(*(_block17() for _ in range(10)))
        self.mixed_7a = _Reduction(
            [
                nn.Sequential(_Conv(896, 256, 1), _Conv(256, 384, 3, stride=2)),
                nn.Sequential(_Conv(896, 256, 1), _Conv(256, 256, 3, stride=2)),
                nn.Sequential(
                    _Conv(896, 256, 1), _Conv(256, 256, 3, same=True), _Conv(256, 256, 3, stride=2)
                ),
            ]
        )
        self.repeat_3 = nn.Sequential(*(_block8(0.20) for _ in range(5)))
        self.block8 = _block8(1.0)
        self.block8.last = True
        self.last_linear = nn.Linear(1792, WIDTH, bias=False)
        self.last_bn = nn.BatchNorm1d(WIDTH, eps=0.001)

    def forward(self, faces: Tensor) -> Tensor:
        """Embeddings `batch 512` of unit length, of `batch 3 160 160`."""
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(faces)))
        x = self.conv2d_4a(self.conv2d_3b(F.max_pool2d(x, 3, stride=2)))
        x = self.mixed_6a(self.repeat_1(self.conv2d_4b(x)))
        x = self.mixed_7a(self.repeat_2(x))
        x = self.block8(self.repeat_3(x)).mean((2, 3))
        return F.normalize(self.last_bn(self.last_linear(x)), dim=1)


def load_facenet(path: Path) -> nn.Module:
    """The network with the published weights.

    Raises:
        CheckpointError: If the file is not that state dict.
    """
    return load_strictly(unfilled(InceptionResnetV1), read_pickle(path), path, unused=("logits.",))


def facenet_input(face: NDArray[np.uint8]) -> Tensor:
    """A face box without margin as the network takes it: 160 x 160 by areas, (x - 127.5) / 128."""
    small = cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return torch.from_numpy((small.astype(np.float32) - 127.5) / 128).permute(2, 0, 1)


def facenet(
    store: WeightStore,
    *,
    detector: str = "mtcnn",
    device: str = "cpu",
    dtype: str = "float32",
    batch_size: int | None = None,
) -> FaceNetwork:
    """The extractor `facenet.<detector>.box`: `output` (n, 512), unit embeddings per face.

    FastComposer detects with facenet-pytorch's MTCNN, whose weights have the same origin and
    another layout than those of the `mtcnn` wheel; boxes can differ by a pixel.

    Raises:
        MissingWeightsError: If the weights are absent.
    """
    path = store.locate("facenet")
    return FaceNetwork(
        name="facenet",
        version=1,
        weights=store.digests("facenet"),
        network=Network(
            lambda: load_facenet(path), device=device, dtype=dtype, batch_size=batch_size
        ),
        prepare=facenet_input,
        rule=EveryFace(detector, margin=None),
        shape=(WIDTH,),
    )
