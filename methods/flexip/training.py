"""The settings of FlexIP's training, each default with its source."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from idbench.methods.common.latent_sizes import check_size
from idbench.methods.common.training import TrainingConfig
from idbench.methods.flexip.adapter import BASE, CLIP, DINO
from idbench.methods.flexip.gate import check_gamma
from idbench.methods.flexip.samples import SampleConfig

# Follow from the networks that are trained with.
DERIVED = ("dim", "cross_attention_dim", "class_dim", "patch_dim", "layers", "base", "clip", "dino")


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Images and scores on the way, through the harness's own suites and metrics.

    Attributes:
        every: Steps between validations.
        suite: Name of a suite.
        metrics: Names of metrics.
        gammas: A run each.
        limit: Cases of the suite, from its start; None for all.
        settings: Parameters of the method `flexip` that differ from its defaults, such as
            `num_inference_steps`.
    """

    every: int
    suite: str
    metrics: tuple[str, ...]
    gammas: tuple[float, ...] = (0.0, 0.5, 1.0)
    limit: int | None = None
    settings: dict[str, int | float | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            ValueError: Naming the setting, its value and what is allowed.
        """
        if self.every < 1:
            raise ValueError(f"every must be at least 1, got {self.every}")
        if not self.metrics:
            raise ValueError("metrics must name at least one metric")
        for gamma in self.gammas:
            check_gamma(gamma, "gammas")


@dataclass(frozen=True, kw_only=True)
class FlexIPTrainingConfig(TrainingConfig):
    """Settings besides those of `TrainingConfig`. Batch sizes are per optimizer step or forward.

    Attributes:
        data: Folder of shards, as `idbench train flexip-shards` writes them.
        fine_tune: Folder of shards of higher quality, for the second stage; None for one stage.
        fine_tune_from: First step of the second stage, counted from 0 (appendix B.1: 100,000).
        steps: Of both stages together (appendix B.1: 140,000).
        learning_rate: Appendix B.1: 1e-4.
        weight_decay: Appendix B.1: 0.01.
        mixed_precision: "bf16" computes the frozen networks so and keeps the adapter in float32.
        batch_size: Samples of an optimizer step in all processes (appendix B.1: 16 on each of 8).
        micro_batch_size: Samples of a forward; all of a process's share if None.
        resolution: Pixels of the target, a side (appendix B.1: 512).
        variant_share: Share of video and multi-view samples (section 4.1: 1:1).
        drop_image: Probability to train without image alone (appendix B.1: 5 %).
        drop_text: As `drop_image`, without text alone.
        drop_both: As `drop_image`, without both.
        alpha: gamma of image samples (equation 5; 0.9 is ours).
        beta: 1 - gamma of video and multi-view samples (equation 5; 0.9 is ours).
        learn_gate: Learn alpha and beta, from these values on.
        gate_jitter: Largest number, up or down, that is added to gamma at random.
        static_gate: gamma is 0.5 for every sample: the ablation of the gate.
        ema_decay: Of an exponential moving average of the adapter, which then is the result; None
            for none. The paper has none.
        workers: Reading processes of each training process; 0 reads in the training process. Part
            of the order of the data.
        window: Row groups that a reading process holds and mixes, of each kind of data.
        weights: Folder of Stable Diffusion 1.5, CLIP ViT-H/14 and DINOv2-L.
        base: Stable Diffusion 1.5, if not in `weights`.
        clip: CLIP ViT-H/14, if not in `weights`.
        dino: DINOv2-L, if not in `weights`.
        base_name: Written into the adapter, which is refused with another base model.
        clip_name: As `base_name`.
        dino_name: As `base_name`.
        initial: Folder of an adapter to start from, in place of a fresh one.
        architecture: Arguments of `FlexIPAdapter` that differ from its defaults; widths and layers
            follow from the networks.
        validation: Images and scores on the way; None for none.
    """

    data: Path
    fine_tune: Path | None = None
    fine_tune_from: int = 100_000
    steps: int = 140_000
    learning_rate: float = 1e-4
    mixed_precision: Literal["no", "bf16", "fp16"] = "bf16"
    batch_size: int = 128
    micro_batch_size: int | None = None
    resolution: int = 512
    variant_share: float = 0.5
    drop_image: float = 0.05
    drop_text: float = 0.05
    drop_both: float = 0.05
    alpha: float = 0.9
    beta: float = 0.9
    learn_gate: bool = False
    gate_jitter: float = 0.0
    static_gate: bool = False
    ema_decay: float | None = None
    workers: int = 4
    window: int = 16
    weights: Path
    base: Path | None = None
    clip: Path | None = None
    dino: Path | None = None
    base_name: str = BASE
    clip_name: str = CLIP
    dino_name: str = DINO
    initial: Path | None = None
    architecture: dict[str, Any] = field(default_factory=dict)
    validation: Validation | None = None

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            ValueError: Naming the setting, its value and what is allowed.
        """
        super().__post_init__()
        for name in ("batch_size", "window", "fine_tune_from"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.micro_batch_size is not None and self.micro_batch_size < 1:
            raise ValueError(f"micro_batch_size must be at least 1, got {self.micro_batch_size}")
        if self.workers < 0:
            raise ValueError(f"workers must be at least 0, got {self.workers}")
        check_size(self.resolution, self.resolution)
        for name in ("variant_share", "alpha", "beta", "gate_jitter"):
            check_fraction(name, getattr(self, name))
        if self.ema_decay is not None:
            check_fraction("ema_decay", self.ema_decay)
        drops = (self.drop_image, self.drop_text, self.drop_both)
        if min(drops) < 0 or sum(drops) > 1:
            raise ValueError(
                "drop_image, drop_text and drop_both must be at least 0 and add up to at most 1, "
                f"got {drops}"
            )
        if self.static_gate and (self.learn_gate or self.gate_jitter):
            raise ValueError("static_gate excludes learn_gate and gate_jitter")
        if given := sorted(set(DERIVED) & self.architecture.keys()):
            raise ValueError(
                f"architecture has {', '.join(given)}, which follow from the networks; leave them "
                "out"
            )

    def samples(self) -> SampleConfig:
        """How samples are made."""
        architecture = {"image_size": 224, "dino_size": 224, **self.architecture}
        return SampleConfig(
            seed=self.seed,
            resolution=self.resolution,
            image_size=architecture["image_size"],
            dino_size=architecture["dino_size"],
            variant_share=self.variant_share,
            drop_image=self.drop_image,
            drop_text=self.drop_text,
            drop_both=self.drop_both,
            gate_jitter=self.gate_jitter,
            window=self.window,
        )

    def course(self) -> dict[str, str]:
        """As in `TrainingConfig`; validation looks on and changes nothing."""
        course = {name: value for name, value in super().course().items() if name != "validation"}
        # Unlike elsewhere, the size of a forward decides which samples meet.
        return course | {"micro_batch_size": str(self.micro_batch_size)}


def check_fraction(name: str, value: float) -> None:
    """Refuses a number outside [0, 1].

    Raises:
        ValueError: Naming the setting and its value.
    """
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must be in [0, 1], got {value}")
