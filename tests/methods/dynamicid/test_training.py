import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from idbench.methods.common.training import (
    Checkpoints,
    TrainingLog,
    epoch_order,
    indices_of_step,
    normal,
    read_config,
    rng_of,
)
from idbench.methods.dynamicid.anchoring import AnchoringConfig
from idbench.methods.dynamicid.training import TrainingConfig

GOOD = {"output": "out", "steps": 3, "data": "data.json", "weights": "weights"}


def write(tmp_path, **settings):
    path = tmp_path / "run.yaml"
    lines = [f"{key}: {json.dumps(value)}" for key, value in {**GOOD, **settings}.items()]
    path.write_text("\n".join(lines))
    return path


def test_defaults_are_those_of_paper_and_code(tmp_path):
    config = read_config(write(tmp_path), AnchoringConfig)
    assert (config.learning_rate, config.weight_decay, config.batch_size) == (1e-5, 1e-2, 16)
    assert (config.drop_image, config.drop_text, config.drop_both) == (0.05, 0.05, 0.05)
    assert config.lora_rank == 128


def test_paths_are_relative_to_the_file(tmp_path):
    config = read_config(write(tmp_path, images="/pictures"), AnchoringConfig)
    assert config.output == tmp_path / "out"
    assert config.images == Path("/pictures")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"learning_rat": 1e-4}, "unknown settings learning_rat"),
        ({"steps": "many"}, "steps"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"resolution": 500}, "multiple of 64"),
        ({"drop_image": 0.9, "drop_text": 0.2}, "add up"),
        ({"mixed_precision": "fp8"}, "mixed_precision"),
    ],
)
def test_wrong_settings_are_named_with_the_file(tmp_path, settings, named):
    with pytest.raises(ValueError, match=named) as caught:
        read_config(write(tmp_path, **settings), AnchoringConfig)
    assert "run.yaml" in str(caught.value)


@pytest.mark.parametrize("text", ["[1, 2]", "steps: [", "steps: 3"])
def test_what_is_no_configuration_is_refused(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"run\.yaml"):
        read_config(path, AnchoringConfig)


def test_an_epoch_has_every_sample_once_and_the_next_another_order():
    seen = [indices_of_step(7, step, 4, 6) for step in range(6)]
    flat = [index for step in seen for index in step]
    epochs = [flat[start : start + 6] for start in range(0, 24, 6)]
    assert all(sorted(epoch) == list(range(6)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert epoch_order(7, 0, 6) == epochs[0]


def test_randomness_depends_on_its_place_alone():
    one, same, other = (normal(rng_of(1, *place), (8,)) for place in ((3, 0), (3, 0), (3, 1)))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@dataclass(frozen=True, kw_only=True)
class Config(TrainingConfig):
    width: int = 3


def parts(seed=0):
    torch.manual_seed(seed)
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    frozen = torch.nn.Linear(3, 3).requires_grad_(False)
    whole = torch.nn.ModuleDict({"trained": module, "frozen": frozen})
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    return whole, optimizer


def work(whole, optimizer):
    whole["trained"](torch.randn(5, 3)).square().sum().backward()
    optimizer.step()


def test_a_checkpoint_restores_weights_batch_statistics_and_optimizer(tmp_path):
    config = Config(output=tmp_path, steps=9)
    whole, optimizer = parts()
    work(whole, optimizer)
    Checkpoints(config).save(1, whole, optimizer)
    other, other_optimizer = parts(seed=1)
    other["frozen"].load_state_dict(whole["frozen"].state_dict())
    assert Checkpoints(config).restore(other, other_optimizer) == 1
    for key, value in whole.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key
    moments = [state["exp_avg_sq"] for state in optimizer.state_dict()["state"].values()]
    restored = [state["exp_avg_sq"] for state in other_optimizer.state_dict()["state"].values()]
    assert all(torch.equal(a, b) for a, b in zip(moments, restored, strict=True))


def test_frozen_weights_are_not_saved(tmp_path):
    from safetensors import safe_open

    whole, optimizer = parts()
    work(whole, optimizer)
    Checkpoints(Config(output=tmp_path, steps=9)).save(1, whole, optimizer)
    with safe_open(tmp_path / "checkpoints/step-00000001/weights.safetensors", "pt") as file:
        keys = set(file.keys())
    assert not any(key.startswith("frozen") for key in keys)
    assert "trained.1.running_mean" in keys


def test_only_whole_checkpoints_count_and_old_ones_go(tmp_path):
    config = Config(output=tmp_path, steps=9, keep_checkpoints=2)
    whole, optimizer = parts()
    work(whole, optimizer)
    checkpoints = Checkpoints(config)
    for step in (2, 4, 6):
        checkpoints.save(step, whole, optimizer)
    half = tmp_path / "checkpoints" / ".step-00000008.part"
    half.mkdir()
    (half / "weights.safetensors").write_bytes(b"half")
    assert checkpoints.steps() == [4, 6]
    assert checkpoints.restore(whole, optimizer) == 6


def test_a_checkpoint_of_other_settings_is_refused_with_their_names(tmp_path):
    whole, optimizer = parts()
    work(whole, optimizer)
    Checkpoints(Config(output=tmp_path, steps=9)).save(1, whole, optimizer)
    with pytest.raises(ValueError, match=r"width \(3 there, 4 here\)"):
        Checkpoints(Config(output=tmp_path, steps=9, width=4)).restore(whole, optimizer)


def test_more_steps_continue_a_run(tmp_path):
    whole, optimizer = parts()
    work(whole, optimizer)
    Checkpoints(Config(output=tmp_path, steps=1)).save(1, whole, optimizer)
    assert Checkpoints(Config(output=tmp_path, steps=5)).restore(whole, optimizer) == 1


def test_the_log_forgets_steps_that_will_be_made_again(tmp_path):
    log = TrainingLog(tmp_path, 0)
    for step in (1, 2, 3):
        log.add(step, {"loss": step / 2})
    with log.path.open("a") as file:
        file.write('{"step": 4, "lo')  # killed while writing
    TrainingLog(tmp_path, 2).add(3, {"loss": 9.0})
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert lines == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 1.0}, {"step": 3, "loss": 9.0}]
