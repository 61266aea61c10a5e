"""Facial landmarks as the IMR sees them: a 96 x 96 map of points and its convolutional encoder.

Landmarks are the 106 points of insightface on a face picture of 512 x 512 pixels.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

MAP_SIZE = 96
FRAME_SIZE = 512

BLOCKS: tuple[tuple[tuple[int, int, int, int], int], ...] = (
    # (channels out, kernel, stride, padding) of the first unit, then residual units
    ((16, 7, 1, 3), 0),
    ((32, 3, 2, 1), 2),
    ((64, 3, 2, 1), 3),
    ((128, 3, 2, 1), 2),
    ((256, 3, 2, 1), 2),
    ((512, 3, 2, 1), 1),
)
"""Blocks 0 to 5; the last block takes the 3 x 3 map to one vector without padding."""


class ConvUnit(nn.Module):
    """Convolution, batch norm, the input added if `residual`, ReLU."""

    def __init__(
        self, cin: int, cout: int, kernel: int, stride: int, padding: int, *, residual: bool = False
    ) -> None:
        """Builds the unit; `residual` needs equal shapes in and out."""
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.Conv2d(cin, cout, kernel, stride, padding), nn.BatchNorm2d(cout)
        )
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """(batch, cin, h, w) to (batch, cout, h', w')."""
        out: Tensor = self.conv_block(x)
        return torch.relu(out + x if self.residual else out)


class KeypointEncoder(nn.Module):
    """Landmark map to a feature of `embedding_dim` non-negative numbers; 126 tensors.

    `width_divisor` divides the channels of all but the last unit, for small models.
    """

    def __init__(self, embedding_dim: int = 768, width_divisor: int = 1) -> None:
        """Builds the encoder; the defaults are those of the released weights."""
        super().__init__()
        self.embedding_dim = embedding_dim
        blocks: list[nn.Sequential] = []
        cin = 1
        for (channels, kernel, stride, padding), residuals in BLOCKS:
            cout = channels // width_divisor
            first = ConvUnit(cin, cout, kernel, stride, padding)
            rest = [ConvUnit(cout, cout, 3, 1, 1, residual=True) for _ in range(residuals)]
            blocks.append(nn.Sequential(first, *rest))
            cin = cout
        blocks.append(
            nn.Sequential(ConvUnit(cin, cin, 3, 1, 0), ConvUnit(cin, embedding_dim, 1, 1, 0))
        )
        self.blocks = nn.Sequential(*blocks)

    def forward(self, landmark_map: Tensor) -> Tensor:
        """(batch, 1, 96, 96) in {-1, 1} to (batch, embedding_dim, 1, 1), at least 0.

        Raises:
            ValueError: If the map has another size; some would pass and mean nothing.
        """
        if landmark_map.shape[1:] != (1, MAP_SIZE, MAP_SIZE):
            raise ValueError(
                f"landmark_map must be (batch, 1, {MAP_SIZE}, {MAP_SIZE}), got "
                f"{tuple(landmark_map.shape)}"
            )
        features: Tensor = self.blocks(landmark_map)
        return features


def draw_landmarks(points: NDArray[np.floating], frame_size: int = FRAME_SIZE) -> NDArray[np.uint8]:
    """The landmark map as an image, (96, 96) uint8: 255 where a point falls and 0 elsewhere.

    `points` is (n, 2), x and y in pixels of a square frame. Coordinates are truncated; points at
    or below 0 or at or beyond 96 are dropped, all as in the official code.
    """
    scaled = np.asarray(points) / (frame_size / MAP_SIZE)
    inside = ((scaled > 0) & (scaled < MAP_SIZE)).all(axis=1)
    x, y = scaled[inside].astype(np.int64).T
    image = np.zeros((MAP_SIZE, MAP_SIZE), dtype=np.uint8)
    image[y, x] = 255
    return image


def landmark_tensor(image: NDArray[np.uint8]) -> Tensor:
    """A landmark image as the encoder takes it: (1, 96, 96) float32, (x / 255 - 0.5) / 0.5."""
    return (torch.from_numpy(image.astype(np.float32))[None] / 255.0 - 0.5) / 0.5


def landmark_points(image: NDArray[np.uint8], frame_size: int = FRAME_SIZE) -> NDArray[np.floating]:
    """The points of a landmark image in frame pixels: the centres of its white cells, (n, 2)."""
    y, x = np.nonzero(image > 127)
    return (np.stack([x, y], axis=1) + 0.5) * (frame_size / MAP_SIZE)


def perturb_landmarks(
    points: NDArray[np.floating], rng: np.random.Generator, strength: float = 1.0
) -> NDArray[np.floating]:
    """Moves landmarks a little, so that inference does without exact ones (section 3.2).

    The paper gives no amounts; these are ours, on the 512 px frame, times `strength`: a shift of
    up to 8 px per axis, a scale within 3 %, a rotation within 3 degrees about the centroid, and
    N(0, 1.5^2) px per coordinate. Strength 0 changes nothing, as in the official code.
    """
    shift = rng.uniform(-8.0, 8.0, size=2) * strength
    scale = 1.0 + rng.uniform(-0.03, 0.03) * strength
    angle = np.deg2rad(rng.uniform(-3.0, 3.0)) * strength
    jitter = rng.normal(0.0, 1.5, size=points.shape) * strength
    points = np.asarray(points, dtype=np.float64)
    if not len(points):
        return points
    centre = points.mean(axis=0)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved: NDArray[np.floating] = (points - centre) @ rotation.T * scale + centre + shift + jitter
    return moved
