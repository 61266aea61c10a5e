"""Attentional gating: which rows take what from which image, in which step (equations 7 to 9).

The gate of a run is a set of tensors that the attention processors read. It is filled once per
batch of faces and advanced once per step by writing into the same tensors, so that a compiled
network sees neither new objects nor Python counters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, interpolate

from idbench.methods.editedid.config import EditedIDConfig
from idbench.methods.editedid.word_alignment import MAX_TOKENS, PromptError

# Rows of a batch are ordered (branch, face, role); roles are original, intermediate and target.
ORIGINAL, INTERMEDIATE, TARGET = range(3)
ROLES = 3

_LATENT_LEVELS = 4  # resolutions of the UNet: the latents' own and three halvings


def resize_mask(
    mask: Tensor, size: int, mode: Literal["bilinear", "area_any"] = "bilinear"
) -> Tensor:
    """A mask (..., 1, h, w) at size x size, of 0 and 1.

    "bilinear" samples without antialiasing and keeps values over one half, as the released code
    does; "area_any" keeps every cell that the mask touches.
    """
    if mode == "area_any":
        return (adaptive_max_pool2d(mask.float(), size) > 0).float()
    resized = interpolate(mask.float(), (size, size), mode="bilinear", align_corners=False)
    return (resized > 0.5).float()


def regions(
    mask_o: Tensor,
    mask_i: Tensor,
    overlap: tuple[float, float] = (0.5, 0.5),
    boost: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    """Weights of original, intermediate and target at each position, equation 8.

    They sum to one everywhere, except with a `boost` other than 1, which exists for parity with
    the released code.

    Args:
        mask_o: Elements taken from the original, (faces, 1, h, w), of 0 and 1.
        mask_i: Elements taken from the intermediate image, likewise.
        overlap: (a, b) where the masks overlap; scaled to sum to one.
        boost: Factors of the masks.

    Returns:
        (faces, 3, h, w).
    """
    a, b = overlap[0] / sum(overlap), overlap[1] / sum(overlap)
    mask_o, mask_i = boost[0] * mask_o, boost[1] * mask_i
    both = mask_o * mask_i
    return torch.cat(
        [
            mask_o * (1 - mask_i) + a * both,
            mask_i * (1 - mask_o) + b * both,
            1 - torch.maximum(mask_o, mask_i),
        ],
        dim=1,
    )


@dataclass(frozen=True, slots=True)
class TokenSwap:
    """Which target tokens take their cross-attention maps from which source, for one face.

    Attributes:
        tokens_o: Indices in the target prompt of the elements taken from the original.
        tokens_i: Indices of those taken from the intermediate image.
        mapper_o: For each target token its index in the original's prompt, or -1; (77,).
        mapper_i: Likewise in the intermediate's prompt.
        windows: Steps in which a token is swapped, (N + 1, 77) of 0 and 1.
    """

    tokens_o: tuple[int, ...]
    tokens_i: tuple[int, ...]
    mapper_o: Tensor
    mapper_i: Tensor
    windows: Tensor

    def __post_init__(self) -> None:
        """Checks that no token has two sources.

        Raises:
            PromptError: If one has.
        """
        shared = sorted(set(self.tokens_o) & set(self.tokens_i))
        if shared:
            raise PromptError(
                f"target tokens {shared} are listed both for the original and for the edited "
                "image; give every element to one of them"
            )


def swap_matrices(swap: TokenSwap, step: int, *, rest: str = "target") -> Tensor:
    """Equation 9 as three matrices (role, source token, target token) of weights.

    Column j of matrix r says how much of which map of row r becomes the target's map of token j.
    Tokens without a counterpart in the source keep the target's own map. With `rest` "original"
    the remaining tokens take the original's maps where they exist there (refinement of
    Prompt-to-Prompt).
    """
    wanted_o, wanted_i = torch.zeros(MAX_TOKENS), torch.zeros(MAX_TOKENS)
    if rest == "original":
        wanted_o[:] = 1.0
    wanted_o[list(swap.tokens_o)] = 1.0
    wanted_o[list(swap.tokens_i)] = 0.0
    wanted_i[list(swap.tokens_i)] = 1.0
    weight_o = wanted_o * swap.windows[step] * (swap.mapper_o >= 0)
    weight_i = wanted_i * swap.windows[step] * (swap.mapper_i >= 0)
    matrices = torch.zeros(ROLES, MAX_TOKENS, MAX_TOKENS)
    column = torch.arange(MAX_TOKENS)
    matrices[ORIGINAL, swap.mapper_o.clamp(min=0), column] = weight_o
    matrices[INTERMEDIATE, swap.mapper_i.clamp(min=0), column] = weight_i
    matrices[TARGET, column, column] = 1.0 - weight_o - weight_i
    return matrices


class AttentionalGate:
    """State of the gate for one batch of faces; made per call.

    Args:
        config: Which gate, where and when.
        mask_o: Elements of the originals, (faces, 1, h, w).
        mask_i: Elements of the edited images, likewise.
        swaps: One per face.
        latent_size: Side of the latents; regions are prepared for it and three halvings.
        branches: 2 under guidance (unconditional first), 1 without.

    Attributes:
        regions: Number of query positions -> weights (faces, 3, positions, 1).
        self_active: Whether the self-attention gate acts, (branches,) of bool.
        swap: Swap matrices of the current step, (faces, 3, 77, 77).
        maps: Sum of recorded cross-attention maps of the elements' words, (faces, 3, positions).
    """

    def __init__(
        self,
        config: EditedIDConfig,
        mask_o: Tensor,
        mask_i: Tensor,
        swaps: Sequence[TokenSwap],
        *,
        latent_size: int,
        branches: int = 2,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Prepares all resolutions, at step 0."""
        self.config = config
        self.faces = len(swaps)
        self.branches = branches
        self.vanishing = _vanishing(mask_o, mask_i, latent_size, config.mask_resize)
        self.regions: dict[int, Tensor] = {}
        for size in _sizes(latent_size):
            weights = regions(
                resize_mask(mask_o, size, config.mask_resize),
                resize_mask(mask_i, size, config.mask_resize),
                config.overlap,
                config.boost,
            )
            self.regions[size * size] = weights.flatten(2)[..., None].to(device, dtype)
        steps = config.num_inference_steps
        self._steps = [
            torch.stack([swap_matrices(s, step, rest=config.cross_rest) for s in swaps]).to(device)
            for step in range(steps)
        ]
        self.self_active = torch.zeros(branches, dtype=torch.bool, device=device)
        self.swap = torch.zeros(self.faces, ROLES, MAX_TOKENS, MAX_TOKENS, device=device).to(dtype)
        self.recorded = (latent_size // 4) ** 2
        self.words = _word_columns(swaps).to(device)
        self.maps = torch.zeros(self.faces, ROLES, self.recorded, device=device)
        self.map_count = torch.zeros((), device=device)
        self.set_step(0)

    @property
    def gates_self(self) -> bool:
        """Whether mask-selective self-attention is on at all."""
        config = self.config
        return config.entanglement and config.self_gate != "none" and 0.0 not in config.boost

    def set_step(self, step: int) -> None:
        """Advances to reconstruction step `step`."""
        config = self.config
        start, end = (int(bound * config.num_inference_steps) for bound in config.self_window)
        inside = start <= step < end and self.gates_self
        names = ("uncond", "cond")[-self.branches :]
        wanted = [inside and config.gate_branches in ("both", name) for name in names]
        self.self_active.copy_(torch.tensor(wanted), non_blocking=True)
        matrices = self._steps[step]
        if not config.cross_swap:
            matrices = torch.zeros_like(matrices)
            matrices[:, TARGET] = torch.eye(MAX_TOKENS, device=matrices.device)
        self.swap.copy_(matrices)


def _sizes(latent_size: int) -> list[int]:
    # A strided convolution halves odd sizes upwards.
    return [-(-latent_size // 2**level) for level in range(_LATENT_LEVELS)]


def _vanishing(
    mask_o: Tensor, mask_i: Tensor, latent_size: int, mode: Literal["bilinear", "area_any"]
) -> list[int]:
    """Resolutions at which a mask that holds something ends up empty."""
    gone = []
    for size in _sizes(latent_size):
        for mask in (mask_o, mask_i):
            full = mask.flatten(1).any(1)
            left = resize_mask(mask, size, mode).flatten(1).any(1)
            if (full & ~left).any():
                gone.append(size)
    return sorted(set(gone), reverse=True)


def _word_columns(swaps: Sequence[TokenSwap]) -> Tensor:
    """Columns of each role's prompt that belong to its elements, (faces, 3, 77)."""
    columns = torch.zeros(len(swaps), ROLES, MAX_TOKENS)
    for face, swap in enumerate(swaps):
        for role, tokens, mapper in (
            (ORIGINAL, swap.tokens_o, swap.mapper_o),
            (INTERMEDIATE, swap.tokens_i, swap.mapper_i),
        ):
            sources = mapper[list(tokens)]
            columns[face, role, sources[sources >= 0]] = 1.0
            columns[face, TARGET, list(tokens)] = 1.0
    return columns
