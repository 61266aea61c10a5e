"""Crops around faces: the absolute margin of IBench, and one that scales with the face."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from idbench.metrics.extractors.items import features_of, image_of
from idbench.metrics.protocol import Features, Item

Pixels = NDArray[np.uint8]

IBENCH_MARGIN = 30


def crop_pm30(image: Pixels, box: NDArray[np.integer]) -> Pixels:
    """IBench's crop: 30 pixels around an integer box `x y width height`, black outside the image.

    The margin is absolute, so how much of the surroundings is seen depends on the resolution.
    """
    x, y, width, height = (int(value) for value in box)
    edges = (
        x - IBENCH_MARGIN,
        y - IBENCH_MARGIN,
        x + width + IBENCH_MARGIN,
        y + height + IBENCH_MARGIN,
    )
    return np.asarray(Image.fromarray(image).crop(edges))


def ibench_crop(image: Pixels, mtcnn: Features) -> Pixels:
    """`crop_pm30` of the first proposal of MTCNN's R-Net stage; without one, the whole image.

    The first proposal can be another person or a false alarm, and the fallback scores a picture
    without a face like one with a face: both are IBench's behaviour.
    """
    boxes = mtcnn["proposals_rounded"]
    return crop_pm30(image, boxes[0]) if len(boxes) else image


def relative_crop(image: Pixels, box: NDArray[np.floating], margin: float = 0.25) -> Pixels:
    """A face box `x1 y1 x2 y2` with `margin * max(width, height)` on each side, border repeated.

    Edges are rounded to whole pixels.
    """
    x1, y1, x2, y2 = (float(value) for value in box)
    extra = margin * max(x2 - x1, y2 - y1)
    left, top = round(x1 - extra), round(y1 - extra)
    right, bottom = max(round(x2 + extra), left + 1), max(round(y2 + extra), top + 1)
    rows = np.clip(np.arange(top, bottom), 0, image.shape[0] - 1)
    columns = np.clip(np.arange(left, right), 0, image.shape[1] - 1)
    return image[rows[:, None], columns[None, :]]


def box_crop(image: Pixels, box: NDArray[np.floating]) -> Pixels:
    """A face box `x1 y1 x2 y2` without margin, clipped to the image; never empty.

    Edges are rounded down, and a box outside the image gives its nearest pixel.
    """
    height, width = image.shape[:2]
    left = int(np.clip(np.floor(box[0]), 0, width - 1))
    top = int(np.clip(np.floor(box[1]), 0, height - 1))
    right = int(np.clip(np.floor(box[2]), left + 1, width))
    bottom = int(np.clip(np.floor(box[3]), top + 1, height))
    return image[top:bottom, left:right]


class CropRule(Protocol):
    """Which crops of an image a face network sees. `tag` ends the name of the extractor."""

    tag: str
    needs: tuple[str, ...]

    def crops(self, item: Item) -> list[Pixels]:
        """The crops, in the order of the detections."""
        ...

    def fingerprint(self) -> Mapping[str, object]:
        """The rule and its parameters."""
        ...


class IBenchCrop:
    """One crop per image: `ibench_crop` of an MTCNN extractor."""

    def __init__(self, detector: str = "mtcnn") -> None:
        """Args: `detector` is the name of the MTCNN extractor."""
        self.tag = "ibench"
        self.needs: tuple[str, ...] = (detector,)

    def crops(self, item: Item) -> list[Pixels]:
        """The crop around the first proposal, or the whole image."""
        return [ibench_crop(image_of(item), features_of(item, self.needs[0]))]

    def fingerprint(self) -> Mapping[str, object]:
        """The rule."""
        return {"rule": "ibench", "margin": f"{IBENCH_MARGIN} px", "detector": self.needs[0]}


class EveryFace:
    """One crop per detected face of another extractor, in its order.

    Args:
        detector: Name of an extractor with `boxes` x1 y1 x2 y2.
        margin: Share of the longer side that is added on each side; border pixels are repeated
            outside the image. None is the box itself, clipped to the image.
    """

    def __init__(self, detector: str, margin: float | None = 0.25) -> None:
        """Keeps the arguments."""
        self.tag = detector if margin is not None else f"{detector}.box"
        self.needs: tuple[str, ...] = (detector,)
        self._margin = margin

    def crops(self, item: Item) -> list[Pixels]:
        """One crop per face, none where there is no face."""
        image = image_of(item)
        boxes = features_of(item, self.needs[0])["boxes"]
        if self._margin is None:
            return [box_crop(image, box) for box in boxes]
        return [relative_crop(image, box, self._margin) for box in boxes]

    def fingerprint(self) -> Mapping[str, object]:
        """The rule and its margin."""
        return {"rule": "every face", "margin": self._margin, "detector": self.needs[0]}
