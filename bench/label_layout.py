"""Where to write the names of points so that they cover nothing (pure)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Angles tried around a point, in degrees, best liked first: right, left, above, below, diagonals.
ANGLES = (0, 180, 90, 270, 30, 150, 330, 210, 60, 120, 300, 240)
RINGS = (1.0, 1.6, 2.6, 4.0, 6.0, 9.0)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle."""

    x0: float
    y0: float
    x1: float
    y1: float

    def overlap(self, other: "Box") -> float:
        """Area shared with another rectangle."""
        width = min(self.x1, other.x1) - max(self.x0, other.x0)
        height = min(self.y1, other.y1) - max(self.y0, other.y0)
        return max(width, 0.0) * max(height, 0.0)

    def outside(self, frame: "Box") -> float:
        """Area that lies outside a frame."""
        area = (self.x1 - self.x0) * (self.y1 - self.y0)
        return area - self.overlap(frame)

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """The point of the rectangle nearest to (x, y)."""
        return min(max(x, self.x0), self.x1), min(max(y, self.y0), self.y1)


def place_labels(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    obstacles: Sequence[Box],
    frame: Box,
    *,
    radius: float,
) -> list[tuple[float, float]]:
    """Lower left corners for labels, one per anchor, in the units of the anchors.

    Labels are placed one by one, those in the densest surroundings first, and then each is tried
    anew while that lowers what is covered. Other labels and points weigh most, then the frame,
    then `obstacles`, then the distance to the own point.
    """
    # A little less than the first ring, so that a label may stand close to its own point.
    reach = 0.8 * radius
    points = [Box(x - reach, y - reach, x + reach, y + reach) for x, y in anchors]
    order = sorted(
        range(len(anchors)),
        key=lambda i: (sum(math.dist(anchors[i], other) for other in anchors), i),
    )
    placed: dict[int, Box] = {}

    def cost(index: int, box: Box) -> float:
        others = sum(box.overlap(other) for i, other in placed.items() if i != index)
        covered = sum(box.overlap(point) for point in points)
        bars = sum(box.overlap(bar) for bar in obstacles)
        distance = math.dist(box.nearest(*anchors[index]), anchors[index])
        return 20 * others + 12 * covered + 20 * box.outside(frame) + 5 * bars + 4 * distance

    for _ in range(4):
        for index in order:
            choices = _choices(anchors[index], sizes[index], radius)
            placed[index] = min(choices, key=lambda box, index=index: cost(index, box))  # type: ignore[misc]
    return [(placed[i].x0, placed[i].y0) for i in range(len(anchors))]


def _choices(anchor: tuple[float, float], size: tuple[float, float], radius: float) -> list[Box]:
    boxes = []
    for ring in RINGS:
        for angle in ANGLES:
            dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            # The edge of the label that faces the point lies on the ring.
            x = anchor[0] + dx * radius * ring + (dx - 1) / 2 * size[0]
            y = anchor[1] + dy * radius * ring + (dy - 1) / 2 * size[1]
            boxes.append(Box(x, y, x + size[0], y + size[1]))
    return boxes
