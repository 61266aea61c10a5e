"""Parameters of EditIDv2."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from idbench.methods.common.flux_sampling import uses_true_cfg
from idbench.methods.editidv2.decomposition import Alpha, AlphaSchedule, QueryNoise
from idbench.methods.pulid.config import PuLIDConfig

Mode = Literal["released", "paper"]


@dataclass(frozen=True, kw_only=True)
class EditIDv2Config(PuLIDConfig):
    """What EditIDv2 is told; sampler defaults are those of section 5.1 of the paper.

    Attributes:
        pulid: Trained weights in the PuLID layout. A file with `pulid_ca.*` alone takes the
            encoder from `pulid_base`. Nothing is published; without it, the run is PuLID with
            EditIDv2's settings.
        pulid_base: A released PuLID-FLUX file, if not in `weights`.
        mode: "released" is what the authors' repository runs: PuLID with other weights. "paper"
            adds the two parts below, which are this project's reconstruction.
        alpha0: Initial strength of equation 8; the paper states none.
        alpha_schedule: "linear" is equation 8, "constant" holds alpha0.
        alpha_floor: Lower bound on alpha.
        alpha_reverse: Reads the equation's t as the remaining noise.
        query_noise: "initial" keeps the first step's queries; "attenuate" scales the update.
        beta0: Strength of the identity guidance of equation 11; 0 is off. Its recogniser is
            glintr100: do not evaluate guided images with it.
    """

    pulid_base: Path | None = None
    width: int = 1024
    height: int = 1024
    num_inference_steps: int = 20
    guidance_scale: float = 3.5
    max_sequence_length: int = 512
    mode: Mode = "released"
    alpha0: float = 1.0
    alpha_schedule: AlphaSchedule = "linear"
    alpha_floor: float = 0.0
    alpha_reverse: bool = False
    query_noise: QueryNoise = "initial"
    beta0: float = 0.0

    def __post_init__(self) -> None:
        """Checks ranges and combinations."""
        PuLIDConfig.__post_init__(self)
        for name in ("alpha0", "alpha_floor"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.beta0 < 0:
            raise ValueError(f"beta0 must be at least 0, got {self.beta0}")
        if self.decomposes and uses_true_cfg(self.true_cfg_scale) and self.cfg_start_step > 0:
            raise ValueError(
                "mode='paper' with true guidance needs cfg_start_step=0, got "
                f"{self.cfg_start_step}: the second pass needs the queries of its own first step"
            )

    @property
    def decomposes(self) -> bool:
        """Whether the first step's queries are kept and mixed in."""
        return self.mode == "paper" and self.query_noise == "initial"

    @property
    def alpha(self) -> Alpha:
        """The schedule of equation 8."""
        return Alpha(
            alpha0=self.alpha0,
            schedule=self.alpha_schedule,
            floor=self.alpha_floor,
            reverse=self.alpha_reverse,
        )

    def files(self) -> dict[str, Path]:
        """The files and folders that are read, each under a name of its own."""
        found = PuLIDConfig.files(self)
        if self.pulid_base is not None:
            if not self.pulid_base.is_file():
                raise FileNotFoundError(f"there is no pulid_base {self.pulid_base}")
            found["pulid_base"] = self.pulid_base
        return found
