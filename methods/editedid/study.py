"""Stability of the solvers, on the analytic score and on a model (the paper's Table 11)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from idbench.methods.editedid.analytic import GaussianMixture, random_mixture
from idbench.methods.editedid.codec import decode, encode_images, encode_prompts
from idbench.methods.editedid.pipeline import EditedIDPipeline
from idbench.methods.editedid.scheduler import HybridDDIMDPMScheduler
from idbench.methods.editedid.stability import Stability, psnr, stability
from idbench.methods.editedid.text import ORIGINAL_PROMPT
from idbench.methods.editedid.trajectories import NoisePredictor, invert, reconstruct

_POINTS = 4  # of each mixture


@dataclass(frozen=True, kw_only=True, slots=True)
class SolverRow:
    """A solver and its numbers, one per mixture or image; `psnr` in dB, empty without images."""

    solver: str
    stability: tuple[Stability, ...]
    psnr: tuple[float, ...] = ()


def solvers(
    num_steps: int, like: HybridDDIMDPMScheduler | None = None
) -> Mapping[str, HybridDDIMDPMScheduler]:
    """The four of Table 11: hybrid, DDIM, DPM-Solver++ and the fragmented control.

    Args:
        num_steps: At least 2; the hybrids take their last two steps by DPM-Solver++.
        like: A scheduler with the noise schedule to use.
    """
    last_two = (num_steps - 2, num_steps - 1)
    base = HybridDDIMDPMScheduler() if like is None else HybridDDIMDPMScheduler.like(like.config)
    kinds: dict[str, dict[str, Any]] = {
        "hybrid": {"dpm_range": last_two},
        "ddim": {"dpm_range": None},
        "dpm-solver++": {"dpm_range": (0, num_steps - 1)},
        "fragmented": {"dpm_range": last_two, "timestep_policy": "fragmented"},
    }
    built = {}
    for name, settings in kinds.items():
        built[name] = HybridDDIMDPMScheduler.from_config(base.config, **settings)
        built[name].set_timesteps(num_steps)
    return built


def analytic_study(seeds: int = 20, num_steps: int = 6) -> list[SolverRow]:
    """Inversion and reconstruction of random Gaussian mixtures, whose score is exact."""
    rows = []
    for name, solver in solvers(num_steps).items():
        numbers = []
        for seed in range(seeds):
            mixture = random_mixture(seed)
            clean = mixture.sample(_POINTS, torch.Generator().manual_seed(seed))
            numbers.append(_retrace(clean, _network(mixture, solver), solver)[0])
        rows.append(SolverRow(solver=name, stability=tuple(numbers)))
    return rows


@torch.no_grad()
def model_study(
    pipeline: EditedIDPipeline,
    images: Sequence[Image.Image],
    num_steps: int = 6,
    prompt: str = ORIGINAL_PROMPT,
) -> list[SolverRow]:
    """Inversion and reconstruction of images by a model, without guidance and without mixing.

    Args:
        pipeline: The model.
        images: RGB crops at its resolution.
        num_steps: N.
        prompt: Describes every image.
    """
    embeds = encode_prompts(pipeline.tokenizer, pipeline.text_encoder, [prompt])[None]
    rows = []
    for name, solver in solvers(num_steps, pipeline.scheduler).items():
        numbers, quality = [], []
        for image in images:
            latents = encode_images(pipeline.vae, [image])[None]
            found, rebuilt = _retrace(
                latents, lambda x, t: pipeline.predict_noise(x, t, embeds), solver
            )
            (decoded,) = decode(pipeline.vae, rebuilt)
            numbers.append(found)
            quality.append(psnr(np.asarray(decoded), np.asarray(image)))
        rows.append(SolverRow(solver=name, stability=tuple(numbers), psnr=tuple(quality)))
    return rows


def _network(mixture: GaussianMixture, solver: HybridDDIMDPMScheduler) -> NoisePredictor:
    def predict(sample: Tensor, timestep: int) -> Tensor:
        return mixture.noise_pred(sample, float(solver.alphas_cumprod[timestep]))

    return predict


def _retrace(
    clean: Tensor, network: NoisePredictor, solver: HybridDDIMDPMScheduler
) -> tuple[Stability, Tensor]:
    inverted = invert(clean, network, solver)
    rebuilt = reconstruct(inverted[0], network, solver)
    errors = [float((a - b).square().mean()) for a, b in zip(inverted, rebuilt, strict=True)]
    return stability(errors), rebuilt[-1]


def table(rows: Sequence[SolverRow]) -> str:
    """The rows as text: mean and standard deviation of each number."""
    with_psnr = any(row.psnr for row in rows)
    head = f"{'solver':<14}{'cumulative MSE':>20}{'max jump':>20}{'final L2':>20}"
    lines = [head + (f"{'PSNR dB':>16}" if with_psnr else "")]
    for row in rows:
        columns = [
            [getattr(entry, name) for entry in row.stability]
            for name in ("cumulative_mse", "max_jump", "final_l2")
        ]
        cells = [f"{np.mean(c):.4f} ± {np.std(c):.4f}".rjust(20) for c in columns]
        if with_psnr:
            cells.append(f"{np.mean(row.psnr):.2f} ± {np.std(row.psnr):.2f}".rjust(16))
        lines.append(f"{row.solver:<14}" + "".join(cells))
    return "\n".join(lines)
