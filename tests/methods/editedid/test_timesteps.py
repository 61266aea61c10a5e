import json

import pytest
import torch

from idbench.methods.editedid.scheduler import HybridDDIMDPMScheduler
from idbench.methods.editedid.timesteps import (
    ddim_timesteps,
    dpm_timesteps,
    fragmented_timesteps,
    hybrid_timesteps,
)

DDIM_NAMES = {"leading": "leading", "trailing": "trailing", "linear_paper": "linear"}


@pytest.fixture(scope="module")
def golden(golden_file):
    return json.loads(golden_file("editedid_timesteps.json").read_text())


@pytest.mark.golden
def test_grids_equal_those_of_the_libraries(golden):
    for entry in golden["diffusers"]:
        n = entry["N"]
        assert ddim_timesteps(n, "leading", steps_offset=0) == entry["ddim_leading0"]
        assert ddim_timesteps(n, "leading") == entry["ddim_leading1"]
        assert ddim_timesteps(n, "trailing") == entry["ddim_trailing"]
        assert dpm_timesteps(n, "linspace") == entry["dpm_linspace"]
        assert dpm_timesteps(n, "leading") == entry["dpm_leading1"]
        assert dpm_timesteps(n, "trailing") == entry["dpm_trailing"]
        # The library's uniform log-SNR grid runs over the whole schedule, ours between given ends.
        lambdas = _lambdas(golden["beta"])
        assert dpm_timesteps(n, "log_snr", lambdas=lambdas, ends=(999, 0)) == entry["dpm_lu"]
        # Inverse schedulers list the levels that they start from, ours those that they end at.
        assert ddim_timesteps(n, "leading")[::-1] == entry["ddim_inverse_leading1"]
        assert [0, *dpm_timesteps(n, "linspace")[:0:-1]] == entry["dpm_inverse_linspace"]


@pytest.mark.golden
def test_hybrid_sequences(golden):
    lambdas = _lambdas(golden["beta"])
    for entry in golden["hybrid"]:
        n, (spacing, offset) = entry["N"], entry["ddim"]
        ddim = ddim_timesteps(n, DDIM_NAMES[spacing], steps_offset=offset)
        dpm = dpm_timesteps(n, entry["dpm"], lambdas=lambdas, ends=(ddim[0], ddim[-1]))
        chosen = tuple(entry["range"]) if entry["range"] else None
        assert (ddim, dpm) == (entry["ddim_seq"], entry["dpm_seq"]), entry
        if entry["strictly_decreasing"]:
            assert hybrid_timesteps(ddim, dpm, chosen) == entry["seq"]
        else:
            with pytest.raises(ValueError, match="decrease strictly"):
                hybrid_timesteps(ddim, dpm, chosen)


@pytest.mark.golden
def test_scheduler_gives_the_hybrid_sequences(golden):
    for entry in golden["hybrid"]:
        if entry["ddim"] != ["leading", 1]:
            continue
        scheduler = HybridDDIMDPMScheduler(
            **golden["beta"],
            dpm_spacing=entry["dpm"],
            dpm_range=tuple(entry["range"]) if entry["range"] else None,
        )
        if entry["strictly_decreasing"]:
            assert scheduler.sequence(entry["N"]) == entry["seq"]
        else:
            with pytest.raises(ValueError, match="decrease strictly"):
                scheduler.sequence(entry["N"])


def _lambdas(beta):
    root = torch.linspace(
        beta["beta_start"] ** 0.5,
        beta["beta_end"] ** 0.5,
        beta["num_train_timesteps"],
        dtype=torch.float64,
    )
    alpha_bar = torch.cumprod(1 - root**2, 0)
    return (0.5 * torch.log(alpha_bar / (1 - alpha_bar))).numpy()


# What is right by default, and the two traps of library defaults.
@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ((4, 5), [831, 665, 499, 333, 285, 143]),
        ((3, 5), [831, 665, 499, 427, 285, 143]),
        (None, [831, 665, 499, 333, 167, 1]),
    ],
)
def test_default_sequences(chosen, expected):
    assert HybridDDIMDPMScheduler(dpm_range=chosen).sequence(6) == expected


def test_library_defaults_repeat_a_timestep():
    scheduler = HybridDDIMDPMScheduler(dpm_range=(4, 5), dpm_spacing="linspace")
    with pytest.raises(ValueError, match=r"step 3 to 4 repeats: 333, 333"):
        scheduler.set_timesteps(6)


def test_offset_zero_rises():
    scheduler = HybridDDIMDPMScheduler(dpm_range=(4, 5), dpm_spacing="linspace", steps_offset=0)
    with pytest.raises(ValueError, match=r"step 3 to 4 rises: 332, 333"):
        scheduler.set_timesteps(6)


def test_shared_policy_keeps_the_ddim_grid():
    scheduler = HybridDDIMDPMScheduler(
        dpm_range=(4, 5), dpm_spacing="linspace", timestep_policy="shared"
    )
    assert scheduler.sequence(6) == [831, 665, 499, 333, 167, 1]


def test_fragmented_control_restarts_in_each_segment():
    assert fragmented_timesteps(6, (4, 5)) == [751, 501, 251, 1, 667, 334]
    scheduler = HybridDDIMDPMScheduler(dpm_range=(4, 5), timestep_policy="fragmented")
    assert scheduler.sequence(6) == [751, 501, 251, 1, 667, 334]


def test_unknown_spacing_lists_the_known():
    with pytest.raises(ValueError, match="leading, trailing, linear"):
        ddim_timesteps(6, "cubic")
    with pytest.raises(ValueError, match="lambdas"):
        dpm_timesteps(6, "log_snr")


def test_range_outside_the_steps_is_refused():
    with pytest.raises(ValueError, match=r"dpm_range must lie in \[0, 3\]"):
        HybridDDIMDPMScheduler(dpm_range=(4, 5)).set_timesteps(4)
