"""Pictures on their way into the face encoder: the square crop and CLIP's preprocessing."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from idbench.methods.dynamicid.faces import FaceBox

CROP_SIZE = 512
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def crop_face(picture: Image.Image, box: FaceBox, factor: float = 1.6) -> Image.Image:
    """A square of `factor` times the larger side of the box, centred on it, at 512 x 512.

    Beyond the picture its edge is repeated. The official code does not crop and expects pictures
    that are; the factor is ours.
    """
    x0, y0, x1, y1 = box
    side = max(1, round(factor * max(x1 - x0, y1 - y0)))
    left = round((x0 + x1) / 2 - side / 2)
    top = round((y0 + y1) / 2 - side / 2)
    pixels = np.asarray(picture.convert("RGB"))
    rows = np.clip(np.arange(top, top + side), 0, pixels.shape[0] - 1)
    columns = np.clip(np.arange(left, left + side), 0, pixels.shape[1] - 1)
    square = Image.fromarray(pixels[rows[:, None], columns[None, :]])
    return square.resize((CROP_SIZE, CROP_SIZE), Image.Resampling.BICUBIC)


def clip_pixels(picture: Image.Image, size: int = 224) -> Tensor:
    """CLIP's input, (3, size, size): shortest side to `size` (bicubic), centre crop, normalised.

    What the official code's image processor does, written out because processors differ in their
    resampling from one version of their library to the next.
    """
    width, height = picture.size
    if width <= height:
        target = (size, int(size * height / width))
    else:
        target = (int(size * width / height), size)
    resized = picture.convert("RGB").resize(target, Image.Resampling.BICUBIC)
    left, top = (target[0] - size) // 2, (target[1] - size) // 2
    square = np.asarray(resized.crop((left, top, left + size, top + size)), dtype=np.float32)
    pixels = torch.from_numpy(square / np.float32(255.0)).permute(2, 0, 1)
    mean, std = (torch.tensor(values)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    return ((pixels - mean) / std).contiguous()
