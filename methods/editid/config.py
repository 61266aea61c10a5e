"""Parameters of EditID."""

from dataclasses import dataclass

from idbench.methods.pulid.config import PuLIDConfig
from idbench.methods.pulid.encoder import NUM_SCALES


@dataclass(frozen=True, kw_only=True)
class EditIDConfig(PuLIDConfig):
    """What EditID is told; sampler settings are those EditIDv2's paper states for both.

    Attributes:
        gamma: Strength of the pooled queries that join the identity tokens; 0 is PuLID. The
            papers state none; 0.3 is a first guess of this project.
        scale_gains: Factors on the encoder's mapped features, shallow to deep; ones are PuLID.
            Smaller ones at the shallow end weaken local copying.
    """

    width: int = 1024
    height: int = 1024
    num_inference_steps: int = 20
    guidance_scale: float = 3.5
    max_sequence_length: int = 512
    gamma: float = 0.3
    scale_gains: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        """Checks ranges."""
        PuLIDConfig.__post_init__(self)
        if self.gamma < 0:
            raise ValueError(f"gamma must be at least 0, got {self.gamma}")
        if len(self.scale_gains) != NUM_SCALES or min(self.scale_gains) < 0:
            raise ValueError(
                f"scale_gains must be {NUM_SCALES} numbers from 0, got {self.scale_gains}"
            )
