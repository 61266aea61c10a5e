import json

import numpy as np
import pytest

from idbench.methods.flexid.gating import Gate, schedules, step_times, weights


@pytest.mark.golden
def test_weights_are_those_of_the_reference(golden_file):
    for case in json.loads(golden_file("flexid_cag.json").read_text())["schedules"]:
        constants = ("alpha_base", "w_base", "kappa", "eta_up", "eta_down")
        gate = Gate(**{name: case[name] for name in constants})
        alpha, w = weights(gate, case["num_steps"], case["intent"])
        np.testing.assert_allclose(alpha, case["alpha"], rtol=0, atol=1e-12)
        np.testing.assert_allclose(w, case["w"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 4, 25, 50])
@pytest.mark.parametrize("kappa", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("intent", [0.0, 1 / 3, 1.0])
def test_means_are_the_bases_times_gamma(steps, kappa, intent):
    gate = Gate(kappa=kappa, alpha_base=0.12, w_base=0.8)
    alpha, w = weights(gate, steps, intent)
    assert w.sum() == pytest.approx(steps * 0.8 * (1 - 0.3 * intent), abs=1e-12)
    assert alpha.mean() == pytest.approx(0.12 * (1 + 0.5 * intent), abs=1e-12)
    semantic, visual = schedules(gate, steps)
    np.testing.assert_allclose(semantic + visual, 2, rtol=0, atol=1e-15)
    if kappa == 0:
        assert len(set(alpha)) == len(set(w)) == 1
    else:
        assert (np.diff(alpha) < 0).all()
        assert (np.diff(w) > 0).all()


def test_times_are_the_middles_of_the_steps():
    np.testing.assert_allclose(step_times(4), [0.875, 0.625, 0.375, 0.125])
    assert step_times(1) == [0.5]
    with pytest.raises(ValueError, match="at least 1, got 0"):
        step_times(0)


def test_intent_moves_both_by_its_factors():
    (alpha, w), (edit_alpha, edit_w) = (weights(Gate(), 25, intent) for intent in (0, 1))
    assert (edit_alpha == 1.5 * alpha).all()
    assert (edit_w == 0.7 * w).all()


def test_without_eta_intent_moves_nothing():
    gate = Gate(eta_up=0, eta_down=0)
    for none, full in zip(weights(gate, 25, 0), weights(gate, 25, 1), strict=True):
        assert (none == full).all()


def test_printed_normalisation_is_t_and_its_complement():
    alpha, w = weights(Gate(norm="max"), 4, 0)
    np.testing.assert_allclose(alpha, 0.1 * np.array([0.875, 0.625, 0.375, 0.125]))
    np.testing.assert_allclose(w, [0.125, 0.375, 0.625, 0.875])


def test_sigmas_as_time_keep_the_mean():
    sigmas = [1.0, 0.9, 0.5]  # mean 0.8
    semantic, visual = schedules(Gate(time="sigma"), 3, sigmas)
    np.testing.assert_allclose(semantic, np.array(sigmas) / 0.8)
    np.testing.assert_allclose(visual, np.array([0, 0.1, 0.5]) / 0.2)
    with pytest.raises(ValueError, match="needs 3 sigmas, got 2"):
        schedules(Gate(time="sigma"), 3, [1, 0.5])
    with pytest.raises(ValueError, match="leaves a schedule without weight"):
        schedules(Gate(time="sigma"), 1, [1.0])


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ({"alpha_base": -0.1}, "alpha_base must be at least 0, got -0.1"),
        ({"eta_down": 1.5}, r"eta_down must be in \[0, 1\], got 1.5"),
        ({"kappa": -1}, r"kappa must be in \[0, 1\], got -1"),
    ],
)
def test_constants_out_of_range_are_refused(constants, message):
    with pytest.raises(ValueError, match=message):
        Gate(**constants)


def test_intent_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"intent must be in \[0, 1\], got 2"):
        weights(Gate(), 3, 2)
