"""The preprocessing of each published scorer, by name: it is part of the metric.

Images are uint8 RGB, `height width 3`; results are float32 tensors, `3 height width`, as the
network takes them.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

Pixels = NDArray[np.uint8]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_BICUBIC = InterpolationMode.BICUBIC


def to_unit(image: Pixels) -> Tensor:
    """The image as float32 in [0, 1], `3 height width`."""
    return _channels_first(image) / 255


def normalised(unit: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(x - mean) / std per channel; `3 height width` or `n 3 height width`."""
    result: Tensor = tv.normalize(unit, list(mean), list(std))
    return result


def short_side(
    image: Pixels, size: int, resample: Image.Resampling = Image.Resampling.BICUBIC
) -> Image.Image:
    """Shorter side to `size` with Pillow (antialiased), the longer one rounded down."""
    height, width = image.shape[:2]
    length = int(size * max(height, width) / min(height, width))
    target = (size, length) if width <= height else (length, size)
    picture = Image.fromarray(image)
    return picture if picture.size == target else picture.resize(target, resample)


def short_side_crop(
    image: Pixels, resize: int, crop: int, resample: Image.Resampling = Image.Resampling.BICUBIC
) -> Pixels:
    """`short_side`, then the centre square of `crop` as torchvision cuts it (halves to even)."""
    return np.asarray(tv.center_crop(short_side(image, resize, resample), [crop, crop]))


def clip_pil(image: Pixels, size: int = 224) -> Tensor:
    """CLIP's own preprocessing: Pillow bicubic to the shorter side, centre crop, normalise."""
    return normalised(to_unit(short_side_crop(image, size, size)), CLIP_MEAN, CLIP_STD)


def clip_ibench(image: Pixels, size: int = 224, antialias: bool = True) -> Tensor:
    """CLIP input of IBench's ClipI and ClipT: resized as a float tensor, overshoot kept.

    IBench scales to [-1, 1] and back before it resizes; the rounding of that is kept.

    Args:
        image: The picture.
        size: Side of the input.
        antialias: What torchvision does by default since 0.17; IBench pins no version.
    """
    unit = (to_unit(image) * 2 - 1 + 1) / 2
    resized = tv.resize(unit, [size], _BICUBIC, antialias=antialias)
    return normalised(tv.center_crop(resized, [size, size]), CLIP_MEAN, CLIP_STD)


def clip_aesthetic(image: Pixels, size: int = 224) -> Tensor:
    """CLIP input of IBench's Aesthetic: bicubic without antialiasing on 0 to 255, not clamped."""
    resized = tv.resize(_channels_first(image), [size], _BICUBIC, antialias=False)
    return normalised(tv.center_crop(resized, [size, size]) / 255, CLIP_MEAN, CLIP_STD)


def imagenet_pil(image: Pixels, resize: int = 256, crop: int = 224) -> Tensor:
    """DINO in DreamBench++: Pillow bicubic, shorter side 256, centre 224, ImageNet statistics."""
    return normalised(to_unit(short_side_crop(image, resize, crop)), IMAGENET_MEAN, IMAGENET_STD)


def dinov2_pil(image: Pixels, resize: int = 256, crop: int = 224) -> Tensor:
    """`BitImageProcessorPil` of transformers with DINOv2's settings.

    Like `imagenet_pil`, but an odd rest of the centre crop is split towards the top left.
    """
    resized = np.asarray(short_side(image, resize))
    top, left = (resized.shape[0] - crop) // 2, (resized.shape[1] - crop) // 2
    cropped = resized[top : top + crop, left : left + crop]
    return normalised(to_unit(cropped), IMAGENET_MEAN, IMAGENET_STD)


def hopenet(image: Pixels, size: int = 224) -> Tensor:
    """Hopenet in IBench: Pillow bilinear, shorter side 224, centre 224, ImageNet statistics."""
    cropped = short_side_crop(image, size, size, Image.Resampling.BILINEAR)
    return normalised(to_unit(cropped), IMAGENET_MEAN, IMAGENET_STD)


def stretched(image: Pixels, size: int, resample: Image.Resampling) -> Pixels:
    """Pillow resize to a square without keeping the aspect ratio."""
    return np.asarray(Image.fromarray(image).resize((size, size), resample))


def ten_crops(image: Pixels, side: int) -> Tensor:
    """Four corners, centre, and their mirror images, `10 3 side side` in [0, 1].

    Raises:
        ValueError: If a side of the image is shorter than `side`.
    """
    height, width = image.shape[:2]
    if min(height, width) < side:
        raise ValueError(
            f"ten crops of {side} px need an image at least so large, got {width} x {height}"
        )
    crops = tv.ten_crop(to_unit(image), [side, side])
    return torch.stack(list(crops))


def _channels_first(image: Pixels) -> Tensor:
    # A copy, because torch warns about arrays that it may not write to.
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
