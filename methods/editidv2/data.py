"""Data of EditIDv2's training: pairs of photos of one person with captions (section 4.1).

The format is the official loaders': JSON lists of objects with `id_image` (the reference face),
`image` (another photo of the same person, the target) and `text` (its caption).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Pair:
    """One sample: whom to show, what to make of it, and the words for it."""

    id_image: Path
    image: Path
    text: str


def read_pairs(lists: Sequence[Path], roots: Sequence[Path]) -> list[Pair]:
    """Reads and joins lists; paths in list i are relative to root i.

    Raises:
        ValueError: If the numbers differ, a file is no such list, or an image is absent; the
            message names the file and the first bad entry.
    """
    if len(lists) != len(roots) or not lists:
        raise ValueError(
            f"data and images must name as many lists as folders, got {len(lists)} and {len(roots)}"
        )
    pairs = []
    for path, root in zip(lists, roots, strict=True):
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not JSON: {error}") from error
        if not isinstance(entries, list) or not entries:
            raise ValueError(f"{path}: must be a list with at least one entry")
        for number, entry in enumerate(entries):
            pairs.append(_pair(entry, root, f"{path}: entry {number}"))
    return pairs


def _pair(entry: object, root: Path, where: str) -> Pair:
    keys = ("id_image", "image", "text")
    if not isinstance(entry, dict) or any(not isinstance(entry.get(key), str) for key in keys):
        raise ValueError(f"{where} must have the texts {', '.join(keys)}, got {entry!r}")
    pair = Pair(root / entry["id_image"], root / entry["image"], entry["text"])
    for path in (pair.id_image, pair.image):
        if not path.is_file():
            raise ValueError(f"{where}: there is no {path}")
    return pair


def target_pixels(image: Image.Image, size: int) -> Tensor:
    """The target in [-1, 1], [3, size, size]: shorter side to `size` (bilinear), centre crop."""
    image = image.convert("RGB")
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    image = image.crop((left, top, left + size, top + size))
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 127.5 - 1


@dataclass(frozen=True, slots=True)
class Drop:
    """What a sample trains without."""

    identity: bool
    text: bool


def drop_of(uniform: float) -> Drop:
    """The official draw: below .05 no identity, below .10 no text, below .15 neither."""
    return Drop(
        identity=uniform < 0.05 or 0.10 <= uniform < 0.15,
        text=0.05 <= uniform < 0.15,
    )
