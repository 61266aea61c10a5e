"""Training from a configuration: it learns, goes on bit for bit, and says what is wrong."""

import json
import shutil
import subprocess
import sys
from importlib import resources

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from idbench.methods.common.training import read_config
from idbench.methods.flexip.checkpoints import WEIGHTS, load_adapter
from idbench.methods.flexip.feed import Stage, stages_of
from idbench.methods.flexip.train import train
from idbench.methods.flexip.training import FlexIPTrainingConfig


def quiet(step, steps, values):
    pass


class InterruptedRunError(Exception):
    pass


def interrupt_at(last):
    def report(step, steps, values):
        if step == last:
            raise InterruptedRunError

    return report


def equal(one, two):
    first, second = (load_file(folder / WEIGHTS) for folder in (one, two))
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def log_of(result):
    return [json.loads(line) for line in (result.parent / "log.jsonl").read_text().splitlines()]


def test_the_loss_falls(configure):
    losses = []
    train(
        configure(steps=60, batch_size=8, learning_rate=0.02, checkpoint_every=1000),
        lambda step, steps, values: losses.append(values["loss"]),
    )
    assert len(losses) == 60
    assert np.mean(losses[-15:]) < 0.95 * np.mean(losses[:15])


def test_losses_of_both_modalities_are_reported(configure):
    reported = []
    result = train(configure(steps=2), lambda *given: reported.append(given))
    assert [(step, steps) for step, steps, _ in reported] == [(1, 2), (2, 2)]
    values = reported[0][2]
    # half of the four samples each, so that the mean of the two is the mean of all
    mean = (values["loss_invariant"] + values["loss_variant"]) / 2
    assert values["loss"] == pytest.approx(mean, rel=1e-5)
    assert log_of(result)[1] == {"step": 2, **reported[1][2]}


@pytest.mark.parametrize("settings", [{}, {"ema_decay": 0.5, "learn_gate": True}])
def test_an_interrupted_run_goes_on_bit_for_bit(configure, settings):
    whole = train(configure("whole", steps=6, **settings), quiet)
    path = configure("parts", steps=6, **settings)
    with pytest.raises(InterruptedRunError):
        train(path, interrupt_at(5))  # the last checkpoint is of step 4
    assert not (path.parent / "parts" / "adapter").exists()
    parts = train(path, quiet)
    assert equal(whole, parts)
    assert log_of(whole) == log_of(parts)


def test_a_longer_run_continues_a_shorter_one(configure):
    whole = train(configure("whole", steps=4), quiet)
    train(configure("parts", steps=2), quiet)
    parts = train(configure("parts", steps=4), quiet)
    assert equal(whole, parts)


def test_gradients_can_be_accumulated(configure):
    """One step over two halves is one step over the whole, up to the order of sums."""
    one = train(configure("one", steps=1), quiet)
    # both see samples 0 to 3 of the only lane
    two = train(configure("two", steps=1, micro_batch_size=2), quiet)
    assert log_of(one)[0]["loss"] == pytest.approx(log_of(two)[0]["loss"], rel=1e-5)
    first, second = (load_file(folder / WEIGHTS) for folder in (one, two))
    moved = [(first[key] - second[key]).abs().max().item() for key in first]
    assert np.median(moved) < 1e-4  # AdamW's first step has the size of the learning rate, 0.003


def test_the_average_of_the_weights_is_the_result(configure):
    plain = train(configure("plain", steps=2), quiet)
    averaged = train(configure("averaged", steps=2, ema_decay=0.5, checkpoint_every=1), quiet)
    checkpoint = averaged.parent / "checkpoints" / "step-00000002" / "weights.safetensors"
    state = load_file(checkpoint)
    trained = load_file(plain / WEIGHTS)
    result = load_file(averaged / WEIGHTS)
    assert all(torch.equal(state[f"adapter.{key}"], trained[key]) for key in trained)
    assert not all(torch.equal(result[key], trained[key]) for key in trained)
    start = load_file(train(configure("start", steps=1, learning_rate=0.0), quiet) / WEIGHTS)
    key = "personalization.resampler_t.proj_in.weight"
    low = torch.minimum(start[key], trained[key]) - 0.01
    high = torch.maximum(start[key], trained[key]) + 0.01
    assert ((low <= result[key]) & (result[key] <= high)).all()


def test_the_second_stage_reads_other_data(configure, shards, tmp_path):
    for shard in shards.iterdir():
        shutil.copy(shard, tmp_path / shard.name)
    (tmp_path / "invariant-00000.parquet").unlink()
    settings = {"fine_tune": str(tmp_path), "fine_tune_from": 2}
    config = read_config(configure(**settings), FlexIPTrainingConfig)
    assert stages_of(config) == [Stage(shards, 0, 2), Stage(tmp_path, 2, 4)]
    two = train(configure("two", **settings), quiet)
    one = train(configure("one"), quiet)
    losses = [[entry["loss"] for entry in log_of(result)] for result in (one, two)]
    assert losses[0][:2] == losses[1][:2]
    assert losses[0][2:] != losses[1][2:]
    path = configure("parts", **settings)
    with pytest.raises(InterruptedRunError):
        train(path, interrupt_at(3))
    assert equal(train(path, quiet), two)


def test_a_run_of_one_stage_has_one(configure):
    config = read_config(configure(steps=3), FlexIPTrainingConfig)
    assert [(stage.start, stage.end) for stage in stages_of(config)] == [(0, 3)]
    short = read_config(configure(steps=3, fine_tune="x", fine_tune_from=9), FlexIPTrainingConfig)
    assert [(stage.start, stage.end) for stage in stages_of(short)] == [(0, 3)]


@pytest.fixture
def fresh_accelerate():
    """Accelerate keeps its precision for the whole process; here it may change."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield AcceleratorState._reset_state
    AcceleratorState._reset_state(reset_partial_state=True)


def test_bfloat16_stays_close(configure, fresh_accelerate):
    full = log_of(train(configure("full", steps=3), quiet))
    fresh_accelerate(reset_partial_state=True)
    half = log_of(train(configure("half", steps=3, mixed_precision="bf16"), quiet))
    for one, two in zip(full, half, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=0.05)


def test_a_trained_adapter_is_a_start(configure):
    first = train(configure("first", steps=1), quiet)
    kept = train(configure("kept", steps=1, learning_rate=0.0, initial=str(first)), quiet)
    assert equal(first, kept)
    other = configure("other", initial=str(first), architecture={"image_size": 28, "dino_size": 28})
    with pytest.raises(ValueError, match="has num_learnable 4, and this training 16"):
        train(other, quiet)


def test_the_adapter_says_what_it_was_trained_for(configure):
    result = train(configure(steps=1, clip_name="some CLIP"), quiet)
    config = load_adapter(result).config
    assert (config["base"], config["clip"], config["dino"]) == (
        "stable-diffusion-v1-5",
        "some CLIP",
        "DINOv2-L",
    )
    assert (config["class_dim"], config["patch_dim"], config["dim"]) == (32, 24, 64)


def test_patches_of_clip_need_no_dino(configure, tiny_files, tmp_path):
    for part in (tiny_files.base, tiny_files.clip):
        (tmp_path / part.name).symlink_to(part)
    sizes = json.loads(configure().read_text())["architecture"]
    path = configure(steps=1, weights=str(tmp_path), architecture={**sizes, "retrieval": "clip"})
    assert load_adapter(train(path, quiet)).config["patch_dim"] == 32


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"gamma": 0.5}, "unknown settings gamma"),
        ({"alpha": 1.5}, r"alpha must be in \[0, 1\], got 1.5"),
        ({"drop_text": 0.99}, "add up to at most 1"),
        ({"micro_batch_size": 3}, "choose a multiple of 3"),
        ({"resolution": 100}, "multiple of 8"),
        ({"static_gate": True, "learn_gate": True}, "static_gate excludes"),
        ({"architecture": {"dim": 3}}, "architecture has dim, which follow"),
        ({"architecture": {"width": 3}}, "architecture has no width"),
        ({"data": "nowhere"}, r"no invariant-\*.parquet"),
        ({"validation": {"every": 1, "suite": "tiny-subject", "metrics": ["x"]}}, "needs the harn"),
        ({"validation": {"every": 0, "suite": "x", "metrics": ["x"]}}, "every must be at least 1"),
        ({"steps": "many"}, "steps"),
    ],
)
def test_wrong_settings_are_named(configure, settings, named):
    with pytest.raises(ValueError, match=named):
        train(configure(**settings), quiet)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"alpha": 0.8}, "alpha"), ({"batch_size": 8}, "batch_size"), ({"workers": 2}, "workers")],
)
def test_a_run_with_other_settings_is_not_continued(configure, change, named):
    train(configure(steps=2), quiet)
    with pytest.raises(ValueError, match=f"other settings.*{named}"):
        train(configure(steps=4, **change), quiet)


def test_the_defaults_are_those_of_the_paper(configure):
    path = configure()
    given = json.loads(path.read_text())
    path.write_text(json.dumps({key: given[key] for key in ("output", "data", "weights")}))
    config = read_config(path, FlexIPTrainingConfig)
    assert (config.steps, config.fine_tune_from) == (140_000, 100_000)
    assert (config.learning_rate, config.weight_decay) == (1e-4, 0.01)
    assert (config.batch_size, config.resolution) == (128, 512)
    assert (config.drop_image, config.drop_text, config.drop_both) == (0.05, 0.05, 0.05)
    assert (config.alpha, config.beta, config.variant_share) == (0.9, 0.9, 0.5)
    assert config.steps * config.batch_size == 17_920_000


def test_the_settings_of_the_paper_are_a_configuration():
    path = resources.files("idbench.methods.flexip") / "paper.yaml"
    config = read_config(path, FlexIPTrainingConfig)
    assert config.batch_size == 8 * config.micro_batch_size == 128
    assert [(stage.start, stage.end) for stage in stages_of(config)] == [
        (0, 100_000),
        (100_000, 140_000),
    ]


@pytest.mark.slow
def test_two_processes_go_on_bit_for_bit_too(configure):
    def run(name, steps, processes=2):
        path = configure(name, steps=steps, batch_size=8, micro_batch_size=2, learn_gate=True)
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command = [*launch, f"--nproc_per_node={processes}", "-m", "idbench", "train", "flexip"]
        done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
        return path.parent / name / "adapter", done

    whole, first = run("whole", 3)
    assert first.returncode == 0, first.stderr
    run("parts", 2)
    parts, second = run("parts", 3)
    assert second.returncode == 0, second.stderr
    assert equal(whole, parts)
    assert log_of(whole) == log_of(parts)
    _, refused = run("parts", 4, processes=1)
    assert refused.returncode != 0
    assert "made with 2 processes, and this run has 1" in refused.stderr
