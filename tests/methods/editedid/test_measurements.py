"""Solver stability and timings, as functions and as what the command line prints."""

import argparse

import numpy as np
import pytest
import torch
from PIL import Image

from idbench import perf_solver
from idbench.methods.editedid.config import EditedIDConfig
from idbench.methods.editedid.performance import STAGES, breakdown, measure, random_pipeline
from idbench.methods.editedid.stability import psnr, stability
from idbench.methods.editedid.study import analytic_study, model_study, solvers


def test_stability_by_hand():
    """Jumps of [0, 1, 3, 2] are 1, 2 and 1."""
    found = stability([0, 1, 3, 2])
    assert (found.cumulative_mse, found.max_jump) == (6.0, 2.0)
    assert found.final_l2 == pytest.approx(2**0.5)


def test_a_perfect_retrace_is_zero():
    found = stability([0.0] * 7)
    assert (found.cumulative_mse, found.max_jump, found.final_l2) == (0.0, 0.0, 0.0)


def test_psnr_by_hand():
    black = np.zeros((4, 4, 3), np.uint8)
    assert psnr(black, black) == float("inf")
    assert psnr(black + np.uint8(255), black) == 0.0
    # An error of 5 levels everywhere: 20 log10(255 / 5).
    assert psnr(black + np.uint8(5), black) == pytest.approx(20 * np.log10(51))
    with pytest.raises(ValueError, match="one shape"):
        psnr(black, black[:2])


def test_the_four_solvers():
    kinds = solvers(6)
    assert {name: solver.timesteps.tolist() for name, solver in kinds.items()} == {
        "hybrid": [831, 665, 499, 333, 285, 143],
        "ddim": [831, 665, 499, 333, 167, 1],
        "dpm-solver++": [853, 711, 569, 427, 285, 143],
        "fragmented": [751, 501, 251, 1, 667, 334],
    }


def test_analytic_study_orders_the_solvers():
    rows = analytic_study(seeds=5)
    means = {row.solver: np.mean([s.cumulative_mse for s in row.stability]) for row in rows}
    assert sorted(means, key=means.get) == ["hybrid", "ddim", "dpm-solver++", "fragmented"]


def test_model_study_measures_images(pipeline):
    image = Image.effect_noise((64, 64), 30).convert("RGB")
    rows = model_study(pipeline, [image], num_steps=2)
    assert [len(row.stability) for row in rows] == [1] * 4
    for row in rows:
        assert np.isfinite(row.psnr[0])
        assert row.stability[0].cumulative_mse > 0


def arguments(*words):
    parser = argparse.ArgumentParser()
    perf_solver.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def test_perf_solver_prints_a_table(tiny_model, tmp_path):
    text = perf_solver.measure(arguments("--seeds", 1, "--steps", 4))
    assert text.splitlines()[0] == "analytic score, 1 mixtures, 4 steps"
    assert [line.split()[0] for line in text.splitlines()[2:]] == list(solvers(4))
    Image.effect_noise((80, 64), 30).convert("RGB").save(tmp_path / "a.png")
    text = perf_solver.measure(
        arguments("--base", tiny_model, "--image", tmp_path / "a.png", "--steps", 2)
    )
    assert "PSNR dB" in text
    with pytest.raises(ValueError, match="go together"):
        perf_solver.measure(arguments("--base", tiny_model))


def test_breakdown_names_every_stage_and_both_paths():
    pipeline = random_pipeline("tiny", dtype=torch.float32)
    config = EditedIDConfig(num_inference_steps=2, null_inner_steps=1)
    timings = breakdown(pipeline, config, faces=(1, 2), repeats=1, warm_up=0)
    assert [(t.null_mode, t.faces) for t in timings] == [
        ("optimised", 1),
        ("optimised", 2),
        ("prompt", 1),
        ("prompt", 2),
    ]
    for timing in timings:
        assert tuple(timing.seconds) == STAGES
        assert timing.total == pytest.approx(sum(timing.seconds.values()))
        assert timing.peak_mib is None
    # The fast path does no optimisation; a call that returns None takes next to no time.
    assert timings[2].seconds["null-text"] < 0.1 * timings[0].seconds["null-text"]


def test_measure_states_the_share_of_null_text():
    text = measure("editedid", size="tiny", device="cpu", steps=2, repeats=1, warm_up=0)
    assert text.startswith("EditedID, tiny architecture, random weights, 2 steps, cpu, float32")
    assert "null-text optimisation is" in text
    assert text.endswith("times faster")
