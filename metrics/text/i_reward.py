"""I-Reward: how much people would like the image for the prompt."""

from collections.abc import Mapping

from idbench.metrics.protocol import MetricInfo, Missing, Observation, Role

# Mean and deviation of the raw reward over the authors' data; ImageReward.py.
MEAN = 0.16717362830052426
DEVIATION = 1.0333394966054072


def standardised(raw: float) -> float:
    """The raw reward in deviations from the mean over the authors' data."""
    return (raw - MEAN) / DEVIATION


class IReward:
    """ImageReward-v1.0 of the image and its prompt, roughly a z-score, unbounded."""

    version = 1
    needs: Mapping[Role, tuple[str, ...]] = {"generated": ("image_reward",)}
    info = MetricInfo(
        name="i_reward",
        protocol="strict",
        backend="image-reward",
        summary="ImageReward-v1.0 of the image for its prompt",
        unit="standard deviations",
        higher_is_better=True,
        bounds=(float("-inf"), float("inf")),
        axis="text",
        papers=("EditedID",),
    )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """The standardised reward."""
        return {"": standardised(float(observation.get("generated", "image_reward")["reward"]))}
