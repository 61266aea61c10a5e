"""Every number and switch of EditedID, with its source."""

from dataclasses import dataclass, replace
from typing import Literal

DdimSpacing = Literal["leading", "trailing", "linear"]
DpmSpacing = Literal["leading", "linspace", "trailing", "log_snr", "log_t"]
Layer = Literal["down", "mid", "up"]
Ablation = Literal["alignment", "disentanglement", "entanglement"]

MAX_WEIGHT = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class EditedIDConfig:
    """Settings of one restoration.

    (P) stated by the paper, (C) read in the released code, (N) inherited from null-text inversion
    and Prompt-to-Prompt, (O) decided here because neither says.

    Attributes:
        num_inference_steps: N, diffusion steps of inversion and of reconstruction (P: 6).
        w_init: First mixing weight, in [0, 0.5] (P: 0.04).
        mix_lr: Step size of the mixing weight; "auto" takes the one with the smallest largest
            drop of the gap between the two latents (O).
        mix_loss: "normalized" divides the alignment loss by the squared gap (O), "mse" is the
            literal gradient.
        final_steps: Last inversion steps that mix half and half (P: "later steps"; C: small).
        dpm_range: First and last reconstruction step of DPM-Solver++, 0-based, inclusive; "auto"
            takes the last two (O: the numbers are lost); None never uses it.
        ddim_spacing: Timesteps of the DDIM grid. "linear" is equation 13.
        dpm_spacing: Timesteps of the DPM-Solver++ grid. "log_t" is equation 14.
        steps_offset: Added to both "leading" grids (SD 1.4: 1).
        timestep_policy: "hybrid" picks each step's timestep from its own solver's grid (P);
            "shared" gives both solvers the DDIM grid.
        solver_variant: Second-order update of DPM-Solver++ 2M.
        warm_history: Keep DDIM steps in the multistep history, so that the first DPM-Solver++ step
            is of second order (O).
        lower_order_final: Take the last reconstruction step at first order.
        guidance_scale: Classifier-free guidance (N: 7.5).
        guidance_reconstruction: Guidance of the two reconstructions in the entanglement pass;
            None is `guidance_scale`.
        null_mode: "optimised" is null-text optimisation (P); "prompt" puts the prompt in place of
            the null text: guidance cancels, nothing is optimised, one branch is run (O).
        null_inner_steps: Adam steps per diffusion step (N: 10).
        null_lr: Their step size at the first diffusion step (N: 0.01).
        null_lr_decay: Its relative fall per diffusion step (N: 1/100).
        null_stop: Loss under which a face is left alone, per row (N: 1e-5).
        null_stop_growth: What this grows by per diffusion step (N: 2e-5).
        gradient_checkpointing: Trade time for memory in null-text optimisation.
        target_null: Whose null embeddings the target row uses (O: Prompt-to-Prompt shares one).
        overlap: (a, b), weights of original and edited image where their masks overlap; scaled to
            sum to one. (0.5, 0.5) suits eyes under glasses; for hair under a hat a <= b (P).
        self_gate: What mask-selective self-attention exchanges: "feature" output rows (C),
            "map_query" attention rows, "map_key" attention columns, "none".
        self_layers: Parts of the UNet it acts in (P: down and mid; C: down).
        gate_branches: Branches of guidance it acts in (O: both; C as released: "uncond").
        self_window: First and one past the last step it acts in, as fractions of N (P: all).
        boost: Factors of the two masks before the regions are formed (C; parity only, keep 1).
        cross_swap: Whether token-selective cross-attention acts.
        cross_window: As `self_window` for cross-attention (P: all).
        cross_rest: Maps of tokens in neither element list: the target's own (P) or those of the
            original prompt where the token exists there ("original", N).
        renormalize_cross: Divide swapped cross-attention rows by their sum (N: no).
        blend: Local blend: "mask" from the element masks (O), "attention" from 16x16 maps (N).
        blend_base: Image whose latents stand outside the blend (O: the edited one; N: "original").
        blend_start: Fraction of the steps after which the blend acts (N: 0.2).
        blend_threshold: Of the normalised maps, for "attention" (N: 0.3).
        mask_resize: "bilinear" as in the code (C), "area_any" keeps any touched cell.
        preprocess: "face_crop" registers and crops around the face (O), "center_crop" is (N).
        crop_scale: Side of the square crop over the longer side of the face box (O).
        registration_skip: Landmark error, in face sizes, under which a pair counts as registered.
        registration_limit: Landmark error after registration over which a pair is refused.
        force: Restore pairs over `registration_limit` all the same.
        max_faces_per_batch: Faces that pass through the UNet together.
        truncate_uint8: Truncate pixels as the code does instead of rounding (N).
        alignment: False leaves the two latents unmixed; the target starts from the original's.
        disentanglement: False uses DDIM in all steps.
        entanglement: False leaves only cross-attention replacement.
    """

    num_inference_steps: int = 6
    w_init: float = 0.04
    mix_lr: float | Literal["auto"] = "auto"
    mix_loss: Literal["normalized", "mse"] = "normalized"
    final_steps: int = 1
    dpm_range: tuple[int, int] | Literal["auto"] | None = "auto"
    ddim_spacing: DdimSpacing = "leading"
    dpm_spacing: DpmSpacing = "leading"
    steps_offset: int = 1
    timestep_policy: Literal["hybrid", "shared"] = "hybrid"
    solver_variant: Literal["midpoint", "heun"] = "midpoint"
    warm_history: bool = True
    lower_order_final: bool = True
    guidance_scale: float = 7.5
    guidance_reconstruction: float | None = None
    null_mode: Literal["optimised", "prompt"] = "optimised"
    null_inner_steps: int = 10
    null_lr: float = 1e-2
    null_lr_decay: float = 0.01
    null_stop: float = 1e-5
    null_stop_growth: float = 2e-5
    gradient_checkpointing: bool = False
    target_null: Literal["original", "intermediate", "mean"] = "original"
    overlap: tuple[float, float] = (0.5, 0.5)
    self_gate: Literal["feature", "map_query", "map_key", "none"] = "feature"
    self_layers: tuple[Layer, ...] = ("down", "mid")
    gate_branches: Literal["both", "cond", "uncond"] = "both"
    self_window: tuple[float, float] = (0.0, 1.0)
    boost: tuple[float, float] = (1.0, 1.0)
    cross_swap: bool = True
    cross_window: tuple[float, float] = (0.0, 1.0)
    cross_rest: Literal["target", "original"] = "target"
    renormalize_cross: bool = False
    blend: Literal["mask", "attention", "none"] = "mask"
    blend_base: Literal["intermediate", "original"] = "intermediate"
    blend_start: float = 0.2
    blend_threshold: float = 0.3
    mask_resize: Literal["bilinear", "area_any"] = "bilinear"
    preprocess: Literal["face_crop", "center_crop"] = "face_crop"
    crop_scale: float = 1.8
    registration_skip: float = 0.02
    registration_limit: float = 0.08
    force: bool = False
    max_faces_per_batch: int = 8
    truncate_uint8: bool = False
    alignment: bool = True
    disentanglement: bool = True
    entanglement: bool = True

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            ValueError: Naming the setting, its value and what is allowed.
        """
        n = self.num_inference_steps
        if n < 2:
            raise ValueError(f"num_inference_steps must be at least 2, got {n}")
        if not 0 <= self.w_init <= MAX_WEIGHT:
            raise ValueError(f"w_init must be in [0, {MAX_WEIGHT}], got {self.w_init}")
        if self.mix_lr != "auto" and self.mix_lr < 0:
            raise ValueError(f"mix_lr must be 'auto' or at least 0, got {self.mix_lr}")
        if not 1 <= self.final_steps <= n:
            raise ValueError(
                f"final_steps must be in [1, num_inference_steps = {n}], got {self.final_steps}"
            )
        if isinstance(self.dpm_range, tuple):
            first, last = self.dpm_range
            if not 0 <= first <= last < n:
                raise ValueError(
                    f"dpm_range must be two steps first <= last in [0, {n - 1}], None or 'auto', "
                    f"got {self.dpm_range}"
                )
        a, b = self.overlap
        if a < 0 or b < 0 or a + b <= 0:
            raise ValueError(f"overlap needs two weights >= 0 with a positive sum, got {(a, b)}")
        for name in ("self_window", "cross_window"):
            start, end = getattr(self, name)
            if not 0 <= start <= end <= 1:
                raise ValueError(f"{name} must be 0 <= start <= end <= 1, got {(start, end)}")
        for name in ("null_inner_steps", "crop_scale", "max_faces_per_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def solver_range(self) -> tuple[int, int] | None:
        """Reconstruction steps taken by DPM-Solver++, with "auto" and the ablation resolved."""
        if not self.disentanglement or self.dpm_range is None:
            return None
        if self.dpm_range == "auto":
            return (self.num_inference_steps - 2, self.num_inference_steps - 1)
        return self.dpm_range

    def ablated(self, *without: Ablation) -> "EditedIDConfig":
        """This configuration without components of the paper's Table 7.

        All three together are its baseline: null-text inversion with Prompt-to-Prompt, started
        from the original image's latents.
        """
        return replace(
            self,
            alignment=self.alignment and "alignment" not in without,
            disentanglement=self.disentanglement and "disentanglement" not in without,
            entanglement=self.entanglement and "entanglement" not in without,
        )
