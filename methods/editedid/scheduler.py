"""The hybrid solver: DDIM in early reconstruction steps, DPM-Solver++ late (equations 5 and 6)."""

import math
from collections.abc import Mapping
from typing import Any, Literal, cast

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from idbench.methods.editedid.config import DdimSpacing, DpmSpacing, EditedIDConfig
from idbench.methods.editedid.solver import (
    Level,
    Prediction,
    first_order,
    predict_x0,
    second_order,
)
from idbench.methods.editedid.timesteps import (
    ddim_timesteps,
    dpm_timesteps,
    fragmented_timesteps,
    hybrid_timesteps,
)


class HybridDDIMDPMScheduler(SchedulerMixin, ConfigMixin):  # type: ignore[misc]  # untyped bases
    """Deterministic solver for reconstruction and inversion on one preset sequence of levels.

    Levels 0 to N-1 are the timesteps of the hybrid sequence, noisiest first; level N is clean and
    uses the first entry of alphas_cumprod, never 1, so that it can be inverted from. Step k goes
    from level k to k + 1, its inverse from k + 1 to k; both evaluate the network at the timestep
    of level k. Steps are pure: the multistep history is handed in and returned.

    Args:
        num_train_timesteps: Length of the training schedule.
        beta_start: First beta.
        beta_end: Last beta.
        beta_schedule: "scaled_linear" as in Stable Diffusion, or "linear".
        prediction_type: Only "epsilon".
        ddim_spacing: See `EditedIDConfig`, as for all that follow.
        dpm_spacing: Grid of the DPM-Solver++ steps.
        steps_offset: Added to "leading" grids.
        timestep_policy: "fragmented" is the paper's negative control and skips validation.
        dpm_range: Steps of DPM-Solver++, inclusive; None for pure DDIM.
        solver_variant: Second-order update.
        warm_history: Keep DDIM steps in the history.
        lower_order_final: First order in the last reconstruction step.

    Raises:
        ValueError: For another beta schedule or prediction type.
    """

    order = 1
    init_noise_sigma = 1.0

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        beta_schedule: str = "scaled_linear",
        prediction_type: str = "epsilon",
        ddim_spacing: DdimSpacing = "leading",
        dpm_spacing: DpmSpacing = "leading",
        steps_offset: int = 1,
        timestep_policy: Literal["hybrid", "shared", "fragmented"] = "hybrid",
        dpm_range: tuple[int, int] | None = (4, 5),
        solver_variant: Literal["midpoint", "heun"] = "midpoint",
        warm_history: bool = True,
        lower_order_final: bool = True,
    ) -> None:
        """Fixes the noise schedule; `set_timesteps` fixes the levels."""
        if prediction_type != "epsilon":
            raise ValueError(f"prediction_type must be 'epsilon', got {prediction_type!r}")
        if beta_schedule == "scaled_linear":
            root = torch.linspace(
                beta_start**0.5, beta_end**0.5, num_train_timesteps, dtype=torch.float64
            )
            betas = root**2
        elif beta_schedule == "linear":
            betas = torch.linspace(beta_start, beta_end, num_train_timesteps, dtype=torch.float64)
        else:
            raise ValueError(
                f"beta_schedule must be 'scaled_linear' or 'linear', got {beta_schedule!r}"
            )
        self.alphas_cumprod = torch.cumprod(1.0 - betas, dim=0)
        self.timesteps = torch.arange(num_train_timesteps - 1, -1, -1)
        self._levels: tuple[Level, ...] = ()

    @classmethod
    def like(cls, config: Mapping[str, Any]) -> "HybridDDIMDPMScheduler":
        """A hybrid solver on the noise schedule of another scheduler's configuration.

        Raises:
            ValueError: If that schedule is given by a table of betas, or is not one of noise
                prediction.
        """
        if config.get("trained_betas") is not None:
            raise ValueError("a scheduler with trained_betas has no schedule that could be shared")
        shared = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule")
        wanted = {name: config[name] for name in (*shared, "prediction_type") if name in config}
        return cast("HybridDDIMDPMScheduler", cls(**wanted))

    @property
    def dpm_range(self) -> tuple[int, int] | None:
        """Reconstruction steps of DPM-Solver++; a list after a round trip through JSON."""
        chosen = self.config["dpm_range"]
        return None if chosen is None else (int(chosen[0]), int(chosen[1]))

    def configured(self, config: EditedIDConfig) -> "HybridDDIMDPMScheduler":
        """This noise schedule with the solver settings of `config` and its number of steps set."""
        changed = self.from_config(
            self.config,
            ddim_spacing=config.ddim_spacing,
            dpm_spacing=config.dpm_spacing,
            steps_offset=config.steps_offset,
            timestep_policy=config.timestep_policy,
            dpm_range=config.solver_range,
            solver_variant=config.solver_variant,
            warm_history=config.warm_history,
            lower_order_final=config.lower_order_final,
        )
        scheduler = cast("HybridDDIMDPMScheduler", changed)
        scheduler.set_timesteps(config.num_inference_steps)
        return scheduler

    def sequence(self, num_inference_steps: int) -> list[int]:
        """Timesteps of the levels 0 to N-1, noisiest first.

        Raises:
            ValueError: If the range does not fit, or the sequence is not strictly decreasing.
        """
        chosen = self.dpm_range
        if chosen is not None and not 0 <= chosen[0] <= chosen[1] < num_inference_steps:
            raise ValueError(
                f"dpm_range must lie in [0, {num_inference_steps - 1}] for {num_inference_steps} "
                f"steps, got {chosen}"
            )
        settings = self.config
        if settings["timestep_policy"] == "fragmented" and chosen is not None:
            return fragmented_timesteps(num_inference_steps, chosen)
        offset = settings["steps_offset"]
        ddim = ddim_timesteps(num_inference_steps, settings["ddim_spacing"], steps_offset=offset)
        if settings["timestep_policy"] == "shared":
            return hybrid_timesteps(ddim, ddim, chosen)
        lambdas = 0.5 * torch.log(self.alphas_cumprod / (1.0 - self.alphas_cumprod))
        dpm = dpm_timesteps(
            num_inference_steps,
            settings["dpm_spacing"],
            steps_offset=offset,
            lambdas=lambdas.numpy(),
            ends=(ddim[0], ddim[-1]),
        )
        return hybrid_timesteps(ddim, dpm, chosen)

    def levels(self, num_inference_steps: int) -> tuple[Level, ...]:
        """The N + 1 levels, from noise to clean; a pure function of the configuration."""
        noisy = [self._level(t) for t in self.sequence(num_inference_steps)]
        clean = self._level(0)
        return (*noisy, Level(None, clean.alpha, clean.sigma))

    def set_timesteps(
        self, num_inference_steps: int, device: str | torch.device | None = None
    ) -> None:
        """Fixes the levels that the steps go between."""
        self._levels = self.levels(num_inference_steps)
        self.timesteps = torch.tensor(
            [level.timestep for level in self._levels[:-1]], device=device
        )

    def scale_model_input(self, sample: Tensor, timestep: int | None = None) -> Tensor:
        """The sample: a variance-preserving process needs no scaling."""
        return sample

    def uses_dpm(self, step: int) -> bool:
        """Whether reconstruction step `step`, and its inverse, are of DPM-Solver++."""
        chosen = self.dpm_range
        return chosen is not None and chosen[0] <= step <= chosen[1]

    def step(
        self, sample: Tensor, noise_pred: Tensor, step: int, history: Prediction | None = None
    ) -> tuple[Tensor, Prediction | None]:
        """Denoises from level `step` to level `step` + 1.

        Args:
            sample: Latents at level `step`, any shape.
            noise_pred: The network's prediction for them.
            step: Reconstruction step k, from 0 to N-1.
            history: What the step before returned.

        Returns:
            The latents at the next level and the history for the next step.
        """
        final = step == len(self._levels) - 2
        return self._move(
            sample,
            noise_pred,
            step,
            self._levels[step],
            self._levels[step + 1],
            None if final and self.config["lower_order_final"] else history,
        )

    def inverse_step(
        self, sample: Tensor, noise_pred: Tensor, step: int, history: Prediction | None = None
    ) -> tuple[Tensor, Prediction | None]:
        """Adds noise from level `step` + 1 to level `step`: the mirror of `step`."""
        return self._move(
            sample, noise_pred, step, self._levels[step + 1], self._levels[step], history
        )

    def _move(
        self,
        sample: Tensor,
        noise_pred: Tensor,
        step: int,
        source: Level,
        target: Level,
        history: Prediction | None,
    ) -> tuple[Tensor, Prediction | None]:
        x0 = predict_x0(sample, noise_pred, source)
        second = self.uses_dpm(step)
        if second and history is not None:
            moved = second_order(sample, x0, history, source, target, self.config["solver_variant"])
        else:
            moved = first_order(sample, x0, source, target)
        keep = second or self.config["warm_history"]
        return moved, Prediction(x0, source.lam) if keep else None

    def _level(self, timestep: int) -> Level:
        alpha_bar = float(self.alphas_cumprod[timestep])
        return Level(timestep, math.sqrt(alpha_bar), math.sqrt(1.0 - alpha_bar))
