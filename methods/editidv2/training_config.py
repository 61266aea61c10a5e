"""The settings of EditIDv2's training, each default with its source."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from idbench.methods.common.flux_config import MAX_T5_TOKENS
from idbench.methods.common.training import TrainingConfig
from idbench.methods.editidv2.losses import Mu
from idbench.methods.pulid.config import PuLIDConfig

VariantName = Literal["joint", "consistency", "editability"]
IdLoss = Literal["off", "official", "differentiable"]
AlphaDraw = Literal["off", "uniform", "level"]


@dataclass(frozen=True, slots=True)
class Variant:
    """What sets a variant of section 3.4 apart: lambda of equation 10, alpha of equation 8."""

    id_loss_weight: float
    alpha: AlphaDraw
    alpha0: float


# The paper gives lambda = 0.5 for the joint training and, for the variants that are fused, only the
# directions: A has a larger lambda, B a smaller initial alpha. Those values are this project's.
VARIANTS: dict[VariantName, Variant] = {
    "joint": Variant(0.5, "off", 1.0),
    "consistency": Variant(1.0, "off", 1.0),
    "editability": Variant(0.5, "level", 0.5),
}


@dataclass(frozen=True, kw_only=True)
class EditIDv2TrainingConfig(TrainingConfig):
    """Settings besides those of `TrainingConfig`.

    Attributes:
        data: JSON lists, see `read_pairs`; relative to the configuration's folder.
        images: Folders of their images, one per list.
        weights: As in the method.
        model: As in the method.
        transformer: As in the method.
        pulid: The weights to start from; the result keeps their ID encoder and dtype (the official
            script starts from v0.9.0).
        eva: As in the method.
        antelopev2: As in the method.
        facexlib: As in the method.
        cache: Folder of the frozen networks' features; `features` in `output` if None.
        steps: Official: 5000.
        learning_rate: Official: 1e-5.
        lr_schedule: "cosine" is the paper's, "constant" the official script's.
        warmup_steps: Of the learning rate.
        weight_decay: Official: 0.01.
        max_grad_norm: Official: 1.0.
        mixed_precision: Official: "bf16".
        batch_size: Samples of an optimizer step in all processes (official: 1 x 2 accumulated).
        micro_batch_size: Samples of a forward.
        size: Pixels of the target, a side (official: 512).
        max_sequence_length: T5 tokens (official: 128).
        guidance_scale: Embedded guidance (official: 1).
        mu: Shift of the levels that are drawn: "official" is that of 1024 px whatever the size,
            "match" that of the size.
        drop_text: Train 10 % of the samples on an empty caption, as the official script does.
        drop_identity: Train 10 % without injection. The official script draws it and forgets it.
        variant: Defaults of the three settings below, see `VARIANTS`.
        id_loss: "differentiable" reaches the trained modules; "official" is logged as in the
            script, where it has no gradient and moves nothing.
        id_loss_weight: lambda of equation 10; that of the variant if None.
        alpha: Mixing of queries while training: "uniform" draws alpha from [alpha_min, 1],
            "level" sets alpha0 t at level t, as equation 8 does over the steps of sampling.
        alpha0: See `alpha`.
        alpha_min: See `alpha`.
        write_every: Steps between weights in the PuLID layout (official: 1000).
        keep_written: How many of them stay (official: 14).
    """

    data: tuple[Path, ...]
    images: tuple[Path, ...]
    weights: Path | None = None
    model: Path | None = None
    transformer: Path | None = None
    pulid: Path | None = None
    eva: Path | None = None
    antelopev2: Path | None = None
    facexlib: Path | None = None
    cache: Path | None = None
    steps: int = 5000
    learning_rate: float = 1e-5
    lr_schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = 0
    weight_decay: float = 1e-2
    max_grad_norm: float | None = 1.0
    mixed_precision: Literal["no", "bf16", "fp16"] = "bf16"
    gradient_checkpointing: bool = True
    batch_size: int = 2
    micro_batch_size: int = 1
    size: int = 512
    max_sequence_length: int = 128
    guidance_scale: float = 1.0
    mu: Mu = "official"
    drop_text: bool = True
    drop_identity: bool = False
    variant: VariantName = "joint"
    id_loss: IdLoss = "differentiable"
    id_loss_weight: float | None = None
    alpha: AlphaDraw | None = None
    alpha0: float | None = None
    alpha_min: float = 0.0
    write_every: int = 1000
    keep_written: int = 14

    def __post_init__(self) -> None:
        """Checks ranges and fills in what the variant decides."""
        TrainingConfig.__post_init__(self)
        chosen = VARIANTS[self.variant]
        for name in ("id_loss_weight", "alpha", "alpha0"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(chosen, name))
        for name in ("batch_size", "micro_batch_size", "write_every", "keep_written"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.size < 16 or self.size % 16:
            raise ValueError(f"size must be a positive multiple of 16, got {self.size}")
        if not 1 <= self.max_sequence_length <= MAX_T5_TOKENS:
            raise ValueError(
                f"max_sequence_length must be in [1, {MAX_T5_TOKENS}], "
                f"got {self.max_sequence_length}"
            )
        for name in ("alpha0", "alpha_min"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.strength < 0:
            raise ValueError(f"id_loss_weight must be at least 0, got {self.strength}")

    @property
    def strength(self) -> float:
        """The factor lambda of equation 10."""
        chosen = self.id_loss_weight
        return VARIANTS[self.variant].id_loss_weight if chosen is None else chosen

    def course(self) -> dict[str, str]:
        """The settings that decide where training goes; see `TrainingConfig.course`."""
        indifferent = {"cache", "write_every", "keep_written"}
        course = TrainingConfig.course(self)
        return {key: value for key, value in course.items() if key not in indifferent}

    def networks(self, device: str, dtype: str) -> PuLIDConfig:
        """The settings by which the networks are found and loaded."""
        return PuLIDConfig(
            weights=self.weights,
            model=self.model,
            transformer=self.transformer,
            pulid=self.pulid,
            eva=self.eva,
            antelopev2=self.antelopev2,
            facexlib=self.facexlib,
            width=self.size,
            height=self.size,
            max_sequence_length=self.max_sequence_length,
            device=device,
            dtype=dtype,
        )
