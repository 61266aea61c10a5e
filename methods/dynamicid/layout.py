"""Where each person's face goes: boxes, their rasters on the query grids, and for how long.

Layout control is equation 3 of the paper (arXiv 2503.06505); the rasters follow the official
code: rows floor(y0 h) to floor(y1 h) - 1 and columns likewise, so a small box can be empty on a
coarse grid and then has no effect there.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Box = tuple[float, float, float, float]
"""y0, x0, y1, x1 as fractions of height and width, in [0, 1]: the order of the official code."""

FULL_FRAME: Box = (0.0, 0.0, 1.0, 1.0)


def vertical_strips(num_people: int) -> tuple[Box, ...]:
    """Full-height strips of equal width from left to right: the boxes of people without boxes."""
    return tuple((0.0, i / num_people, 1.0, (i + 1) / num_people) for i in range(num_people))


def box_from_xyxy(
    box: tuple[float, float, float, float], *, width: float = 1.0, height: float = 1.0
) -> Box:
    """Turns (x0, y0, x1, y1) in units of which the image has `width` and `height` into a `Box`."""
    x0, y0, x1, y1 = box
    return (y0 / height, x0 / width, y1 / height, x1 / width)


def check_box(box: Box) -> None:
    """Refuses what is no box.

    Raises:
        ValueError: If an edge is outside [0, 1] or not finite, or the box has no area.
    """
    y0, x0, y1, x1 = box
    inside = all(math.isfinite(edge) and 0.0 <= edge <= 1.0 for edge in box)
    if not inside or y0 >= y1 or x0 >= x1:
        raise ValueError(
            f"box must be (y0, x0, y1, x1) in [0, 1] with y0 < y1 and x0 < x1, got {box}; "
            "box_from_xyxy converts pixels"
        )


def layout_steps(alpha: float, num_inference_steps: int) -> int:
    """How many of the first steps have the layout term: floor(alpha T + 1/2).

    `alpha` is the share of denoising in [0, 1]; 0.24 of 50 steps are 12, as in the official
    scripts.

    Raises:
        ValueError: If `alpha` is outside [0, 1].
    """
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha must be in [0, 1], got {alpha}")
    return math.floor(alpha * num_inference_steps + 0.5)


def query_grid(num_queries: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the queries of one attention layer.

    The grid is the image of `height` x `width` pixels halved, rounding up as the UNet's
    convolutions of stride 2 do, until it has `num_queries` cells.

    Raises:
        ValueError: If no such grid has that many cells.
    """
    rows, columns = height, width
    while rows * columns > num_queries:
        rows, columns = (rows + 1) // 2, (columns + 1) // 2
    if rows * columns != num_queries:
        raise ValueError(
            f"no halving of an image of {height} x {width} pixels has {num_queries} queries; "
            "height and width must be those of the image being made"
        )
    return rows, columns


def box_mask(box: Box, rows: int, columns: int) -> Tensor:
    """Which cells of a grid the box covers, as bool of shape (rows, columns)."""
    y0, x0, y1, x1 = box
    mask = torch.zeros(rows, columns, dtype=torch.bool)
    mask[int(y0 * rows) : int(y1 * rows), int(x0 * columns) : int(x1 * columns)] = True
    return mask


class Layout:
    """The boxes of a batch of images, rasterised on demand and kept for one generation.

    `boxes[b]` are those of sample b, one per person in the order of the identity tokens; all
    samples have the same number. Height and width are those of the image, in pixels.
    """

    def __init__(self, boxes: Sequence[Sequence[Box]], *, height: int, width: int) -> None:
        """Keeps the boxes.

        Raises:
            ValueError: If there are none, samples differ in their number, or one is no box.
        """
        counts = {len(sample) for sample in boxes}
        if len(counts) != 1 or 0 in counts:
            raise ValueError(
                "every sample of a batch must have the same number of boxes, at least 1; "
                f"got {sorted(counts)}"
            )
        for sample in boxes:
            for box in sample:
                check_box(box)
        self.boxes = tuple(tuple(sample) for sample in boxes)
        self.height = height
        self.width = width
        self._masks: dict[tuple[int, torch.device], Tensor] = {}
        self._unions: dict[tuple[int, torch.device], Tensor] = {}
        self._biases: dict[tuple[int, torch.device, torch.dtype, int], Tensor] = {}

    @property
    def num_boxes(self) -> int:
        """Boxes per sample."""
        return len(self.boxes[0])

    def repeated(self, times: int) -> "Layout":
        """The same boxes for the batch tiled `times`, as classifier-free guidance tiles it."""
        return Layout(self.boxes * times, height=self.height, width=self.width)

    def masks(self, num_queries: int, device: torch.device) -> Tensor:
        """Which queries each box covers, as bool of shape (batch, boxes, queries)."""
        key = (num_queries, device)
        if key not in self._masks:
            rows, columns = query_grid(num_queries, self.height, self.width)
            self._masks[key] = torch.stack(
                [
                    torch.stack([box_mask(box, rows, columns).flatten() for box in sample])
                    for sample in self.boxes
                ]
            ).to(device)
        return self._masks[key]

    def union(self, num_queries: int, device: torch.device) -> Tensor:
        """Which queries are in any box, as bool of shape (batch, queries): M of equation 3."""
        key = (num_queries, device)
        if key not in self._unions:
            self._unions[key] = self.masks(num_queries, device).any(dim=1)
        return self._unions[key]

    def suppression(
        self, num_queries: int, tokens_per_person: int, device: torch.device, dtype: torch.dtype
    ) -> Tensor:
        """What is added to identity scores so that a face takes nothing of the others.

        0 where a query may see a person's tokens and -inf where not, of shape
        (batch, 1, queries, boxes x tokens). A query inside boxes sees the people of those boxes,
        one outside all boxes sees everybody.
        """
        key = (num_queries, device, dtype, tokens_per_person)
        if key not in self._biases:
            masks = self.masks(num_queries, device)
            visible = masks | ~masks.any(dim=1, keepdim=True)
            bias = torch.zeros(visible.shape, device=device, dtype=dtype)
            bias.masked_fill_(~visible, -math.inf)
            bias = bias.repeat_interleave(tokens_per_person, dim=1)
            self._biases[key] = bias.transpose(1, 2).unsqueeze(1).contiguous()
        return self._biases[key]
