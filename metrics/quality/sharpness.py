"""Sharpness: variance of the Laplacian, to be compared at one resolution only."""

import math
from collections.abc import Mapping

from idbench.metrics.protocol import MetricInfo, Missing, Observation, Role


class SharpnessLaplacian:
    """Variance of the Laplacian of the luma, in grey levels squared.

    It falls with blur and rises with noise and with a smaller size, so it has no better direction
    and says nothing across resolutions.
    """

    version = 1
    needs: Mapping[Role, tuple[str, ...]] = {"generated": ("sharpness",)}
    info = MetricInfo(
        name="sharpness",
        protocol="strict",
        backend="laplacian",
        summary="variance of the Laplacian, to compare images of one size",
        unit="grey levels squared",
        higher_is_better=None,
        bounds=(0.0, math.inf),
        axis="quality",
        comparable_to_published=False,
    )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """The variance."""
        return {"": float(observation.get("generated", "sharpness")["variance"])}
