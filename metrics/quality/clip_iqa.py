"""CLIP-IQA: whether CLIP finds an image rather good than bad."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from idbench.metrics.distributions import softmax
from idbench.metrics.protocol import MetricInfo, Missing, Observation, Role

PYIQA_PAIRS = 5


def pair_probabilities(
    similarities: NDArray[np.floating], logit_scale: float
) -> NDArray[np.float64]:
    """Probability of the positive text of each pair, `k`, of cosines `k 2`, positive first."""
    positive: NDArray[np.float64] = softmax(logit_scale * np.asarray(similarities))[:, 0]
    return positive


class ClipIQAMetric:
    """Probability that CLIP RN50 gives to the positive of two opposite texts, in [0, 1].

    FlexIP does not say which texts. Variants: "" the mean over pyiqa's five pairs; `single` the
    original method's one pair, "Good photo." and "Bad photo.".
    """

    version = 1
    needs: Mapping[Role, tuple[str, ...]] = {"generated": ("clip_iqa",)}
    info = MetricInfo(
        name="clip_iqa",
        protocol="strict",
        backend="clip-rn50",
        summary="probability of the good one of two opposite descriptions",
        unit="probability",
        higher_is_better=True,
        bounds=(0.0, 1.0),
        axis="quality",
        variants=("", "single"),
        papers=("FlexIP",),
    )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """Both variants."""
        found = observation.get("generated", "clip_iqa")
        positive = pair_probabilities(found["similarities"], float(found["logit_scale"]))
        return {"": float(positive[:PYIQA_PAIRS].mean()), "single": float(positive[PYIQA_PAIRS])}
