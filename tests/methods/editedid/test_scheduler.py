import json
import math

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from safetensors.torch import load_file

from idbench.methods.editedid.analytic import GaussianMixture, random_mixture
from idbench.methods.editedid.config import EditedIDConfig
from idbench.methods.editedid.scheduler import HybridDDIMDPMScheduler
from idbench.methods.editedid.solver import Level, first_order
from idbench.methods.editedid.stability import stability
from idbench.methods.editedid.trajectories import invert, reconstruct


@pytest.fixture(scope="module")
def golden(golden_file):
    tensors = load_file(golden_file("editedid_solver.safetensors"))
    return tensors, json.loads(golden_file("editedid_solver.json").read_text())["gmm"]


def scheduler(num_steps, dpm_range, **settings):
    built = HybridDDIMDPMScheduler(dpm_range=dpm_range, **settings)
    built.set_timesteps(num_steps)
    return built


def replay(prescribed):
    """A network that answers with prescribed predictions in call order."""
    answers = iter(prescribed)
    return lambda sample, timestep: next(answers)


@pytest.mark.golden
def test_empty_range_is_ddim(golden):
    tensors, _ = golden
    states = reconstruct(
        tensors["x_T"], replay(tensors["eps"]), scheduler(len(tensors["eps"]), None)
    )
    torch.testing.assert_close(
        torch.stack(states), tensors["official.ddim_leading1.traj"], atol=1e-4, rtol=0
    )


@pytest.mark.golden
@pytest.mark.parametrize("variant", ["midpoint", "heun"])
def test_full_range_is_dpm_solver_pp(golden, variant):
    tensors, _ = golden
    steps = len(tensors["eps"])
    solver = scheduler(
        steps,
        (0, steps - 1),
        dpm_spacing="linspace",
        solver_variant=variant,
        lower_order_final=steps < 15,  # the rule of the library
    )
    states = torch.stack(reconstruct(tensors["x_T"], replay(tensors["eps"]), solver))
    expected = tensors[f"official.dpmpp2m_linspace_{variant}_sigma_min.traj"]
    torch.testing.assert_close(states, expected, atol=1e-4, rtol=0)


@pytest.mark.golden
def test_full_range_inversion_is_the_library_inverse_up_to_its_last_step(golden):
    """The library takes its last step at first order; ours has no such rule for inversion."""
    tensors, _ = golden
    steps = len(tensors["eps"])
    solver = scheduler(steps, (0, steps - 1), dpm_spacing="linspace")
    states = invert(tensors["x_T"], replay(tensors["eps"]), solver)[::-1]
    expected = tensors["official.dpmpp2m_inverse_linspace.traj"]
    torch.testing.assert_close(torch.stack(states)[:steps], expected[:steps], atol=1e-4, rtol=0)


@pytest.mark.golden
def test_loops_on_the_analytic_score(golden):
    tensors, meta = golden
    mixture = GaussianMixture(tensors["gmm.mu"], tensors["gmm.logw"], meta["var"])
    for run in meta["runs"]:
        solver = scheduler(
            len(run["timesteps"]),
            tuple(run["range"]) if run["range"] else None,
            dpm_spacing=run["dpm_spacing"],
            warm_history=run["warm_history"],
            lower_order_final=run["lower_order_final"],
        )
        assert solver.timesteps.tolist() == run["timesteps"]
        inverted, rebuilt = loop(solver, mixture, tensors["gmm.z0"])
        name = f"gmm.{run['name']}"
        torch.testing.assert_close(
            torch.stack(inverted[::-1]), tensors[f"{name}.inv"], atol=1e-8, rtol=0
        )
        torch.testing.assert_close(torch.stack(rebuilt), tensors[f"{name}.rec"], atol=1e-8, rtol=0)
        errors = state_errors(inverted, rebuilt)
        assert errors == pytest.approx(run["state_mse"], abs=1e-10)
        measured = stability(errors)
        assert measured.cumulative_mse == pytest.approx(run["cumulative_mse"], abs=1e-9)
        assert measured.max_jump == pytest.approx(run["max_jump"], abs=1e-9)
        assert measured.final_l2 == pytest.approx(run["final_l2"], abs=1e-9)


def loop(solver, mixture, clean):
    def network(sample, timestep):
        return mixture.noise_pred(sample, float(solver.alphas_cumprod[timestep]))

    inverted = invert(clean, network, solver)
    return inverted, reconstruct(inverted[0], network, solver)


def state_errors(inverted, rebuilt):
    return [float((a - b).square().mean()) for a, b in zip(inverted, rebuilt, strict=True)]


def test_solvers_are_ordered_as_in_table_11():
    """Hybrid below DDIM below DPM-Solver++ below fragmented, on 20 mixtures."""
    kinds = {
        "hybrid": scheduler(6, (4, 5)),
        "ddim": scheduler(6, None),
        "dpm": scheduler(6, (0, 5)),
        "fragmented": scheduler(6, (4, 5), timestep_policy="fragmented"),
    }
    totals = {name: [] for name in kinds}
    for seed in range(20):
        mixture = random_mixture(seed)
        clean = mixture.sample(4, torch.Generator().manual_seed(seed))
        for name, solver in kinds.items():
            totals[name].append(stability(state_errors(*loop(solver, mixture, clean))))
    mean = {k: sum(s.cumulative_mse for s in v) / len(v) for k, v in totals.items()}
    assert mean["hybrid"] < mean["ddim"] < mean["dpm"] < mean["fragmented"]
    assert mean["fragmented"] >= 10 * mean["dpm"]
    wins = sum(
        h.cumulative_mse < d.cumulative_mse
        for h, d in zip(totals["hybrid"], totals["ddim"], strict=True)
    )
    assert wins >= 15  # of 20; a coin would give 15 or more with probability 0.02


def test_cold_history_makes_the_first_dpm_step_first_order():
    mixture = random_mixture(0)
    clean = mixture.sample(4, torch.Generator().manual_seed(0))
    warm, cold, ddim_on_it = (
        loop(scheduler(6, (4, 5), warm_history=warm), mixture, clean)[1] for warm in (1, 0, 1)
    )
    assert torch.equal(warm[4], cold[4])
    assert not torch.equal(warm[5], cold[5])
    solver = scheduler(6, (4, 5))
    predicted = mixture.noise_pred(cold[4], float(solver.alphas_cumprod[285]))
    solver.register_to_config(dpm_range=None)
    torch.testing.assert_close(solver.step(cold[4], predicted, 4)[0], cold[5], atol=1e-12, rtol=0)
    assert torch.equal(warm[4], ddim_on_it[4])


def test_first_order_update_is_the_ddim_formula():
    source, target = Level(665, 0.4, math.sqrt(1 - 0.16)), Level(499, 0.6, 0.8)
    sample, noise = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.manual_seed(0))
    x0 = (sample - source.sigma * noise) / source.alpha
    expected = target.alpha * x0 + target.sigma * noise
    torch.testing.assert_close(
        first_order(sample, x0, source, target), expected, atol=1e-12, rtol=0
    )


def test_inverse_undoes_step_for_equal_predictions():
    solver = scheduler(6, None)
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(2, 4, dtype=torch.float64, generator=generator)
    noise = torch.randn(2, 4, dtype=torch.float64, generator=generator)
    for step in range(6):
        there, _ = solver.step(sample, noise, step)
        back, _ = solver.inverse_step(there, noise, step)
        torch.testing.assert_close(back, sample, atol=1e-12, rtol=0)


# diffusers converts tensors in a way that numpy 2 deprecates.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_agrees_with_diffusers_on_other_numbers_of_steps():
    generator = torch.Generator().manual_seed(2)
    for steps in (4, 10):
        start = torch.randn(1, 4, 8, 8, generator=generator)
        answers = torch.randn(steps, 1, 4, 8, 8, generator=generator)
        common = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
        ddim = DDIMScheduler(**common, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
        dpm = DPMSolverMultistepScheduler(**common, final_sigmas_type="sigma_min")
        for theirs, ours in (
            (ddim, scheduler(steps, None)),
            (dpm, scheduler(steps, (0, steps - 1), dpm_spacing="linspace")),
        ):
            theirs.set_timesteps(steps)
            expected = start
            for timestep, noise in zip(theirs.timesteps, answers, strict=True):
                expected = theirs.step(noise, timestep, expected).prev_sample
            states = reconstruct(start, replay(answers), ours)
            torch.testing.assert_close(states[-1], expected, atol=1e-3, rtol=1e-4)


def test_configuration_survives_a_round_trip(tmp_path):
    HybridDDIMDPMScheduler(dpm_range=(3, 5), solver_variant="heun").save_pretrained(tmp_path)
    loaded = HybridDDIMDPMScheduler.from_pretrained(tmp_path)
    assert loaded.sequence(6) == [831, 665, 499, 427, 285, 143]
    assert loaded.config.solver_variant == "heun"


def test_reference_points_of_the_noise_schedule():
    # Stable Diffusion 1.4: alpha-bar and lambda from its scaled-linear betas, to the digits given.
    solver = HybridDDIMDPMScheduler()
    for timestep, alpha_bar, lam in [
        (1, 0.99830, 3.187),
        (166, 0.80485, 0.708),
        (499, 0.27767, -0.478),
        (830, 0.02813, -1.771),
        (999, 0.00466, -2.682),
    ]:
        level = solver._level(timestep)
        assert level.alpha**2 == pytest.approx(alpha_bar, abs=5e-6)
        assert level.lam == pytest.approx(lam, abs=5e-4)
    assert solver.levels(6)[-1].alpha ** 2 == pytest.approx(0.99915, abs=5e-6)
    assert solver.levels(6)[-1].lam == pytest.approx(3.5347, abs=5e-5)


def test_configuration_of_a_run_reaches_the_solver():
    base = HybridDDIMDPMScheduler()
    assert base.configured(EditedIDConfig()).timesteps.tolist() == [831, 665, 499, 333, 285, 143]
    without = EditedIDConfig().ablated("disentanglement")
    assert base.configured(without).timesteps.tolist() == [831, 665, 499, 333, 167, 1]


@pytest.mark.parametrize(
    "settings", [{"beta_schedule": "cosine"}, {"prediction_type": "v_prediction"}]
)
def test_unsupported_schedules_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        HybridDDIMDPMScheduler(**settings)
