"""CLIP-S: whether an element that an edit must keep is in the image."""

from collections.abc import Mapping

import numpy as np

from idbench.metrics.cosine import cosine
from idbench.metrics.protocol import (
    Metric,
    MetricInfo,
    Missing,
    MissingValueError,
    Observation,
    Role,
)

# EditedID's table 13 asks for 0.75 on the scale 2.5 cos, which is 30 on the scale 100 cos.
PASS = 30.0


def clip_s(cosine_similarity: float, *, clip: bool = True) -> float:
    """100 times the cosine, negative ones as 0: the scale of EditedID's tables 3 and 7.

    Args:
        cosine_similarity: Cosine of image and text.
        clip: Whether negative values count 0, as in torchmetrics' CLIPScore.
    """
    value = 100 * cosine_similarity
    return max(value, 0.0) if clip else value


def hessel(cosine_similarity: float) -> float:
    """2.5 max(cos, 0): CLIPScore as Hessel et al. define it (arXiv 2104.08718)."""
    return 2.5 * max(cosine_similarity, 0.0)


class ClipS:
    """CLIP cosine of the image and the description of an element, times 100, not negative.

    EditedID names no model; its group's earlier code uses ViT-B/16 on the whole image, which is the
    default here. With several elements the mean over them counts. Variants: "" the score; `hessel`
    2.5 max(cos, 0); `rate_30` 1 if the score is at least 30 and else 0.

    Missing: `no_element`.
    """

    version = 1

    def __init__(self, backend: str, model: str) -> None:
        """Reads image and texts with the CLIP entry `model` of the weights catalogue."""
        self._text, self._image = f"{model}.text", f"{model}.image"
        self.needs: Mapping[Role, tuple[str, ...]] = {
            "element": (self._text,),
            "generated": (self._image,),
        }
        self.info = MetricInfo(
            name="clip_s",
            protocol="strict",
            backend=backend,
            summary="CLIP cosine of the image and the element that must survive, times 100",
            unit="100 cosine",
            higher_is_better=True,
            bounds=(0.0, 100.0),
            axis="preservation",
            variants=("", "hessel", "rate_30"),
            papers=("EditedID",),
        )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """Means over the elements."""
        count = len(observation.features.get("element", ()))
        if not count:
            raise MissingValueError("no_element", "the case names no element")
        image = observation.get("generated", self._image)["output"]
        cosines = [
            cosine(observation.get("element", self._text, index)["embedding"], image)
            for index in range(count)
        ]
        scores = [clip_s(value) for value in cosines]
        return {
            "": float(np.mean(scores)),
            "hessel": float(np.mean([hessel(value) for value in cosines])),
            "rate_30": float(np.mean([score >= PASS for score in scores])),
        }


def clip_s_b16() -> Metric:
    """CLIP-S with ViT-B/16."""
    return ClipS("clip-b16", "clip_b16")


def clip_s_b32() -> Metric:
    """CLIP-S with ViT-B/32, the default of CLIPScore."""
    return ClipS("clip-b32", "clip_b32")
