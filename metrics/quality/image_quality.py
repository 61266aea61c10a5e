"""Image Quality: MUSIQ's opinion of an image, as IBench feeds it and as it was trained."""

import math
from collections.abc import Mapping
from typing import Literal

from idbench.metrics.protocol import Metric, MetricInfo, Missing, Observation, Role


class ImageQuality:
    """MUSIQ's score, about 0 to 100, divided by 100; nothing bounds it.

    `ibench` feeds pixel values of 0 to 255 where the network expects 0 to 1, as the original does
    by mistake; the two are not interchangeable.
    """

    version = 1

    def __init__(
        self,
        protocol: Literal["ibench", "strict"],
        backend: str,
        extractor: str,
        papers: tuple[str, ...] = (),
    ) -> None:
        """Reads the score of an extractor."""
        self._extractor = extractor
        self.needs: Mapping[Role, tuple[str, ...]] = {"generated": (extractor,)}
        self.info = MetricInfo(
            name="image_quality",
            protocol=protocol,
            backend=backend,
            summary="MUSIQ image quality, divided by 100",
            unit="score / 100",
            higher_is_better=True,
            bounds=(-math.inf, math.inf),
            axis="quality",
            papers=papers,
            comparable_to_published=bool(papers),
        )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """A hundredth of the score."""
        return {"": float(observation.get("generated", self._extractor)["output"][0]) / 100}


def image_quality_ibench() -> Metric:
    """IBench's Imaging Quality."""
    return ImageQuality("ibench", "musiq-spaq", "musiq_spaq.ibench", ("EditIDv2", "FlexID"))


def image_quality_spaq() -> Metric:
    """MUSIQ trained on SPAQ, as pyiqa defines it."""
    return ImageQuality("strict", "musiq-spaq", "musiq_spaq")


def image_quality_koniq() -> Metric:
    """MUSIQ trained on KonIQ-10k, as pyiqa defines it."""
    return ImageQuality("strict", "musiq-koniq", "musiq_koniq")
