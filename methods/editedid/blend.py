"""Local blend: outside the edited elements and the face the target keeps another row's latents."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, interpolate, max_pool2d


def element_mask(mask_o: Tensor, mask_i: Tensor, size: int) -> Tensor:
    """Where the target may differ: both element masks at latent size, grown by one cell.

    Args:
        mask_o: (faces, 1, h, w), of 0 and 1.
        mask_i: Likewise.
        size: Side of the latents.

    Returns:
        (faces, 1, size, size).
    """
    union = adaptive_max_pool2d(torch.maximum(mask_o, mask_i).float(), size)
    return _dilated((union > 0).float())


def attention_mask(maps: Tensor, size: int, threshold: float, base: int) -> Tensor:
    """Where the maps of the elements' words are high, in each row or in the base row.

    Prompt-to-Prompt's local blend: maximum over 3 x 3, nearest upsampling, division by the largest
    value, threshold.

    Args:
        maps: (..., rows, h, w), summed over words, averaged over heads, layers and steps.
        size: Side of the latents.
        threshold: In [0, 1].
        base: Index of the base row.

    Returns:
        (..., rows, 1, size, size) of 0 and 1.
    """
    pooled = _dilated(maps.flatten(0, -3)[:, None])
    grown = interpolate(pooled, (size, size), mode="nearest")
    high = (grown / grown.amax((2, 3), keepdim=True) > threshold).view(
        *maps.shape[:-2], *grown.shape[1:]
    )
    return (high | high[..., base : base + 1, :, :, :]).float()


def blend(latents: Tensor, mask: Tensor, base: int, rows: Sequence[int]) -> Tensor:
    """Latents with the base row's outside the mask.

    Args:
        latents: (faces, rows, channels, h, w).
        mask: (faces, rows or 1, 1, h, w), of 0 and 1.
        base: Index of the base row.
        rows: The rows to change; the others pass.
    """
    reference = latents[:, base : base + 1]
    blended = reference + mask * (latents - reference)
    chosen = latents.clone()
    chosen[:, list(rows)] = blended[:, list(rows)]
    return chosen


def _dilated(maps: Tensor) -> Tensor:
    return max_pool2d(maps, kernel_size=3, stride=1, padding=1)
