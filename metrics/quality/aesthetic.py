"""Aesthetic: LAION's predictors of how beautiful people find an image."""

import math
from collections.abc import Mapping

from idbench.metrics.protocol import Metric, MetricInfo, Missing, Observation, Role


class AestheticIBench:
    """LAION's linear head on CLIP ViT-L/14, divided by 10, with IBench's preprocessing."""

    version = 1
    needs: Mapping[Role, tuple[str, ...]] = {"generated": ("aes_linear.aesthetic",)}
    info = MetricInfo(
        name="aesthetic",
        protocol="ibench",
        backend="laion-linear",
        summary="LAION's linear aesthetic predictor, divided by 10",
        unit="score / 10",
        higher_is_better=True,
        bounds=(-math.inf, math.inf),
        axis="quality",
        papers=("EditIDv2", "FlexID"),
    )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """A tenth of the score."""
        return {"": float(observation.get("generated", "aes_linear.aesthetic")["score"]) / 10}


class AestheticStrict:
    """A LAION predictor on CLIP ViT-L/14 with CLIP's own preprocessing.

    About 1 to 10, though nothing bounds it. Variants: "" the score, `tenth` a tenth of it, which is
    the scale of IBench's tables; the two are never to be mixed.
    """

    version = 1

    def __init__(self, backend: str, extractor: str, papers: tuple[str, ...] = ()) -> None:
        """Reads the score of an extractor."""
        self._extractor = extractor
        self.needs: Mapping[Role, tuple[str, ...]] = {"generated": (extractor,)}
        self.info = MetricInfo(
            name="aesthetic",
            protocol="strict",
            backend=backend,
            summary="LAION's aesthetic predictor",
            unit="score",
            higher_is_better=True,
            bounds=(-math.inf, math.inf),
            axis="quality",
            variants=("", "tenth"),
            papers=papers,
            comparable_to_published=bool(papers),
        )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """The score and a tenth of it."""
        score = float(observation.get("generated", self._extractor)["score"])
        return {"": score, "tenth": score / 10}


def aesthetic_linear() -> Metric:
    """The linear head."""
    return AestheticStrict("laion-linear", "aes_linear")


def aesthetic_mlp() -> Metric:
    """The MLP head, on whose scale FlexIP's table lies."""
    return AestheticStrict("laion-mlp", "aes_mlp", papers=("FlexIP",))
