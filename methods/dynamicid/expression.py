"""The expression of a reference, for the IMR's source prompt: ResEmoteNet.

Architecture and parameter names of ArnabKumarRoy02/ResEmoteNet (MIT); the checkpoint is
`best_model.pth` with key `model_state_dict`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from idbench.methods.dynamicid.faces import FaceBox

CLASSES = ("happy", "surprise", "sad", "anger", "disgust", "fear", "neutral")
INPUT_SIZE = 64
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True, slots=True)
class ResEmoteNetConfig:
    """Channels of the three convolutions, three residual blocks, and four linear layers.

    Dropout is left out: it does nothing at inference, the only use here.
    """

    convolutions: tuple[int, int, int] = (64, 128, 256)
    squeeze: int = 16
    residuals: tuple[int, int, int] = (512, 1024, 2048)
    linears: tuple[int, int, int, int] = (1024, 512, 256, 7)


class SqueezeExcitation(nn.Module):
    """Scales channels by a gate computed from their means."""

    def __init__(self, channels: int, squeezed: int) -> None:
        """Builds the two linear layers, without biases."""
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, squeezed, bias=False),
            nn.ReLU(),
            nn.Linear(squeezed, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, h, w) to the same shape."""
        gate: Tensor = self.fc(x.mean(dim=(2, 3)))
        return x * gate[:, :, None, None]


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions, the first with stride 2, beside a 1 x 1 shortcut."""

    def __init__(self, cin: int, cout: int) -> None:
        """Builds the block."""
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(cout)
        self.shortcut = nn.Sequential(nn.Conv2d(cin, cout, 1, stride=2), nn.BatchNorm2d(cout))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, cin, h, w) to (batch, cout, h / 2, w / 2)."""
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResEmoteNet(nn.Module):
    """Logits of seven expressions of a face at 64 x 64 pixels."""

    def __init__(self, config: ResEmoteNetConfig | None = None) -> None:
        """Builds the network."""
        super().__init__()
        config = config or ResEmoteNetConfig()
        first, second, third = config.convolutions
        self.conv1 = nn.Conv2d(3, first, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(first)
        self.conv2 = nn.Conv2d(first, second, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(second)
        self.conv3 = nn.Conv2d(second, third, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(third)
        self.se = SqueezeExcitation(third, config.squeeze)
        one, two, three = config.residuals
        self.res_block1 = ResidualBlock(third, one)
        self.res_block2 = ResidualBlock(one, two)
        self.res_block3 = ResidualBlock(two, three)
        self.fc1 = nn.Linear(three, config.linears[0])
        self.fc2 = nn.Linear(config.linears[0], config.linears[1])
        self.fc3 = nn.Linear(config.linears[1], config.linears[2])
        self.fc4 = nn.Linear(config.linears[2], config.linears[3])

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 3, 64, 64), normalised, to (batch, 7)."""
        x = max_pool2d(torch.relu(self.bn1(self.conv1(x))), 2)
        x = max_pool2d(torch.relu(self.bn2(self.conv2(x))), 2)
        x = self.se(max_pool2d(torch.relu(self.bn3(self.conv3(x))), 2))
        x = self.res_block3(self.res_block2(self.res_block1(x))).mean(dim=(2, 3))
        for layer in (self.fc1, self.fc2, self.fc3):
            x = torch.relu(layer(x))
        logits: Tensor = self.fc4(x)
        return logits


def config_of(state_dict: Mapping[str, Tensor]) -> ResEmoteNetConfig:
    """The sizes of a checkpoint.

    Raises:
        KeyError: If it is no ResEmoteNet.
    """

    def rows(keys: Sequence[str]) -> list[int]:
        return [state_dict[f"{key}.weight"].shape[0] for key in keys]

    one, two, three = rows(["conv1", "conv2", "conv3"])
    first, second, third = rows([f"res_block{i}.conv1" for i in (1, 2, 3)])
    a, b, c, classes = rows([f"fc{i}" for i in (1, 2, 3, 4)])
    return ResEmoteNetConfig(
        convolutions=(one, two, three),
        squeeze=rows(["se.fc.0"])[0],
        residuals=(first, second, third),
        linears=(a, b, c, classes),
    )


def expression_pixels(picture: Image.Image, box: FaceBox) -> Tensor:
    """The network's input, (3, 64, 64): the face box, grey in three channels, normalised.

    The box is clipped to the picture. The official code finds it with another detector.
    """
    x0, y0, x1, y1 = box
    left, top = max(0, int(x0)), max(0, int(y0))
    right, bottom = min(picture.width, round(x1)), min(picture.height, round(y1))
    crop = picture.convert("RGB").crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    grey = crop.resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BILINEAR).convert("L")
    pixels = torch.from_numpy(np.asarray(grey, dtype=np.float32) / 255.0).expand(3, -1, -1)
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


class ExpressionClassifier:
    """Names the expression of a face."""

    def __init__(self, network: ResEmoteNet) -> None:
        """Keeps the network, in evaluation mode."""
        self.network = network.eval()

    @torch.no_grad()
    def __call__(self, picture: Image.Image, box: FaceBox) -> str:
        """One of `CLASSES`: the likeliest, of equal ones the first."""
        device = next(self.network.parameters()).device
        logits = self.network(expression_pixels(picture, box)[None].to(device))
        return CLASSES[int(logits.argmax())]
