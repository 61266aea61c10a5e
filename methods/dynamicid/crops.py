"""Pictures on their way into the face encoder: the square crop and CLIP's preprocessing."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from idbench.methods.dynamicid.faces import Face, FaceBox

CROP_SIZE = 512
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True)
class Window:
    """A square of a picture, in pixels; it may reach beyond the edges."""

    left: int
    top: int
    side: int


def crop_window(box: FaceBox, factor: float = 1.6) -> Window:
    """A square of `factor` times the larger side of the box, centred on it.

    The official code does not crop and expects pictures that are; the factor is ours.
    """
    x0, y0, x1, y1 = box
    side = max(1, round(factor * max(x1 - x0, y1 - y0)))
    return Window(round((x0 + x1) / 2 - side / 2), round((y0 + y1) / 2 - side / 2), side)


def crop_face(picture: Image.Image, window: Window) -> Image.Image:
    """The window of a picture at 512 x 512; beyond the picture its edge is repeated."""
    pixels = np.asarray(picture.convert("RGB"))
    steps = np.arange(window.side)
    rows = np.clip(window.top + steps, 0, pixels.shape[0] - 1)
    columns = np.clip(window.left + steps, 0, pixels.shape[1] - 1)
    square = Image.fromarray(pixels[rows[:, None], columns[None, :]])
    return square.resize((CROP_SIZE, CROP_SIZE), Image.Resampling.BICUBIC)


def moved(face: Face, window: Window) -> Face:
    """A face of the picture in pixels of its crop."""
    scale = CROP_SIZE / window.side
    corner = np.array([window.left, window.top], np.float32)
    x0, y0, x1, y1 = ((np.reshape(face.box, (2, 2)) - corner) * scale).ravel().tolist()
    landmarks = (face.landmarks - corner) * np.float32(scale)
    return replace(face, box=(x0, y0, x1, y1), landmarks=landmarks)


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
