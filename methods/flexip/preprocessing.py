"""Pictures of a subject on their way into the image encoders."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
WHITE = (255, 255, 255)


def on_white_square(picture: Image.Image, mask: Image.Image | None = None) -> Image.Image:
    """The picture in the middle of the smallest white square that holds it.

    Where `mask` is below 128 the picture is white as well.
    """
    picture = picture.convert("RGB")
    side = max(picture.size)
    square = Image.new("RGB", (side, side), WHITE)
    place = ((side - picture.width) // 2, (side - picture.height) // 2)
    hard = None if mask is None else mask.convert("L").point(lambda level: 255 * (level >= 128))
    square.paste(picture, place, hard)
    return square


def normalised(
    square: Image.Image, size: int, mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """A network's input, (3, size, size): bicubic resize to `size`, then (x / 255 - mean) / std."""
    resized = square.resize((size, size), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.asarray(resized, dtype=np.float32) / np.float32(255.0))
    values = (pixels - torch.tensor(mean)) / torch.tensor(std)
    return values.permute(2, 0, 1).contiguous()


def clip_input(square: Image.Image, size: int) -> Tensor:
    """CLIP's input of a square picture, (3, size, size)."""
    return normalised(square, size, CLIP_MEAN, CLIP_STD)


def dino_input(square: Image.Image, size: int) -> Tensor:
    """DINOv2's input of a square picture, (3, size, size)."""
    return normalised(square, size, IMAGENET_MEAN, IMAGENET_STD)
