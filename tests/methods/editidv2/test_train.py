import json
import os
import signal
import subprocess
import sys
import time
from importlib import resources

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from idbench.methods.common.training import read_config
from idbench.methods.editidv2 import train as module
from idbench.methods.editidv2.data import drop_of, read_pairs, target_pixels
from idbench.methods.editidv2.fusion import fuse_files
from idbench.methods.editidv2.method import EditIDv2
from idbench.methods.editidv2.train import train
from idbench.methods.editidv2.training_config import EditIDv2TrainingConfig

# the libraries' own: torchvision inside facexlib, scikit-image inside insightface
pytestmark = [
    pytest.mark.filterwarnings("ignore:The parameter 'pretrained' is deprecated:UserWarning"),
    pytest.mark.filterwarnings("ignore:Arguments other than a weight enum:UserWarning"),
    pytest.mark.filterwarnings("ignore:`estimate` is deprecated:FutureWarning"),
]


def losses(folder, write_config, **settings):
    """Result of a run and the log's losses by name."""
    folder.mkdir()
    result = train(write_config(folder, **settings), lambda step, steps, values: None)
    lines = [json.loads(line) for line in (folder / "out/log.jsonl").read_text().splitlines()]
    return result, {name: [line[name] for line in lines] for name in lines[0] if name != "step"}


def test_training_lowers_both_losses_and_the_result_fuses_and_runs(
    tmp_path, write_config, training_weights, portrait_request
):
    # A run at rate 0 measures without changing the weights. Its draws are those of another seed,
    # the same ones before and after; "match" draws enough levels at which identity counts.
    common = {"drop_text": False, "mu": "match"}
    measure = {**common, "learning_rate": 0.0, "steps": 8, "batch_size": 8, "seed": 7}
    _, before = losses(tmp_path / "before", write_config, **measure)
    trained, _ = losses(tmp_path / "run", write_config, steps=30, **common)
    _, after = losses(tmp_path / "after", write_config, pulid=str(trained), **measure)
    for name in ("diffusion", "identity"):
        assert np.mean(after[name]) < 0.7 * np.mean(before[name]), name
    # an image without a face adds nothing to the identity term: it must not fall by losing faces
    assert np.mean(after["faces"]) >= np.mean(before["faces"]) > 0.1

    start = training_weights / "pulid" / "pulid_flux_v0.9.1.safetensors"
    fused = fuse_files([start, trained], [0.5, 0.5], tmp_path / "fused.safetensors")
    settings = {
        "weights": training_weights,
        "width": 64,
        "height": 64,
        "num_inference_steps": 2,
        "max_sequence_length": 16,
    }
    images = []
    for pulid in (start, trained, fused):
        (image,) = EditIDv2(pulid=pulid, **settings).generate([portrait_request(0, seed=1)])
        images.append(np.asarray(image).astype(int))
    assert np.abs(images[0] - images[1]).max() > 0
    assert np.abs(images[0] - images[2]).max() > 0


def test_a_run_that_was_killed_ends_bit_for_bit_as_one_that_was_not(tmp_path, write_config):
    settings = {"steps": 8, "checkpoint_every": 2, "batch_size": 2, "micro_batch_size": 1}
    killed = tmp_path / "killed"
    killed.mkdir()
    config = write_config(killed, **settings)
    program = subprocess.Popen(
        [sys.executable, "-m", "idbench", "train", "editidv2", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    log = killed / "out/log.jsonl"
    deadline = time.monotonic() + 240
    # after the third step: the second is in a checkpoint, the third must be made again
    while not log.exists() or len(log.read_text().splitlines()) < 3:
        assert program.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(program.pid, signal.SIGKILL)
    program.wait()
    assert not (killed / "out/final-checkpoint-8.safetensors").exists()
    resumed = train(config, lambda step, steps, values: None)
    whole, _ = losses(tmp_path / "whole", write_config, **settings)
    # not the files' bytes: the library orders their metadata at random
    ours, expected = load_file(resumed), load_file(whole)
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[key], tensor) for key, tensor in expected.items())
    assert log.read_text() == (tmp_path / "whole/out/log.jsonl").read_text()


def test_the_result_has_the_layout_of_its_start_file(tmp_path, write_config, training_weights):
    result, _ = losses(tmp_path / "run", write_config, steps=1, write_every=1, id_loss="off")
    start = load_file(training_weights / "pulid" / "pulid_flux_v0.9.1.safetensors")
    trained = load_file(result)
    assert trained.keys() == start.keys()
    for key, tensor in start.items():
        assert trained[key].dtype == tensor.dtype
        assert torch.equal(trained[key], tensor) == key.startswith("pulid_encoder.")
    with safe_open(result, "pt") as file:
        metadata = file.metadata()
    assert metadata["idbench.training.trained_steps"] == "1"
    assert metadata["idbench.training.id_loss"] == "off"
    assert len(metadata["idbench.training.start_sha256"]) == 64
    assert (result.parent / "checkpoint-1.safetensors").exists()


def identity_gradients(tmp_path, write_config, monkeypatch, id_loss):
    """Gradients of the identity term alone, by parameter, over a few draws."""
    seen = {}

    def only_identity(*args):
        losses = original(*args)
        return type(losses)(losses.diffusion * 0, losses.identity, losses.faces)

    def keep(config, settings, model, steps, name):
        seen.update({k: p.grad.clone() for k, p in model.injector.named_parameters()})

    original = module.losses_of
    monkeypatch.setattr(module, "losses_of", only_identity)
    monkeypatch.setattr(module, "write_weights", keep)
    folder = tmp_path / id_loss
    folder.mkdir()
    settings = {"steps": 1, "batch_size": 8, "micro_batch_size": 8, "max_grad_norm": None}
    train(write_config(folder, id_loss=id_loss, **settings), lambda *report: None)
    return seen


def test_the_differentiable_term_reaches_every_module(tmp_path, write_config, monkeypatch):
    gradients = identity_gradients(tmp_path, write_config, monkeypatch, "differentiable")
    outputs = [g for name, g in gradients.items() if name.endswith("to_out.weight")]
    assert len(outputs) == 2
    assert all(gradient.abs().sum() > 0 for gradient in outputs)


def test_the_official_term_moves_nothing(tmp_path, write_config, monkeypatch):
    gradients = identity_gradients(tmp_path, write_config, monkeypatch, "official")
    assert gradients
    assert all(not gradient.any() for gradient in gradients.values())


@pytest.mark.parametrize("variant", ["consistency", "editability"])
def test_the_variants_train(tmp_path, write_config, variant):
    _, seen = losses(tmp_path / variant, write_config, steps=2, variant=variant)
    assert all(np.isfinite(values).all() for values in seen.values())


@pytest.fixture
def other_precision():
    """Accelerate keeps the precision of a process in a global."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("other_precision")
def test_frozen_networks_in_half_precision_train_weights_in_float32(
    tmp_path, write_config, training_weights
):
    settings = {"steps": 2, "mixed_precision": "bf16", "variant": "editability", "mu": "match"}
    result, seen = losses(tmp_path / "half", write_config, learning_rate=1e-5, **settings)
    assert all(np.isfinite(values).all() for values in seen.values())
    checkpoint = load_file(tmp_path / "half/out/checkpoints/step-00000002/weights.safetensors")
    start = load_file(training_weights / "pulid" / "pulid_flux_v0.9.1.safetensors")
    key = "pulid_ca.1.to_out.weight"
    assert checkpoint[f"injector.{key}"].dtype == torch.float32
    # two steps of AdamW at this rate; half precision would not hold them
    moved = (load_file(result)[key] - start[key]).abs()
    assert 0 < moved.max() < 3e-5


def test_the_size_of_a_micro_batch_changes_nothing(tmp_path, write_config):
    settings = {"steps": 2, "id_loss": "off"}
    whole, _ = losses(tmp_path / "whole", write_config, **settings)
    parts, _ = losses(tmp_path / "parts", write_config, micro_batch_size=1, **settings)
    for (name, a), b in zip(load_file(whole).items(), load_file(parts).values(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=0, msg=name)


def test_variants_set_what_is_not_stated(tmp_path, write_config):
    def read(**settings):
        return read_config(write_config(tmp_path, **settings), EditIDv2TrainingConfig)

    joint, consistency, editability = (
        read(variant=name) for name in ("joint", "consistency", "editability")
    )
    assert joint.strength == 0.5  # the paper's lambda
    assert consistency.strength > joint.strength
    assert editability.alpha0 < joint.alpha0
    assert (joint.alpha, editability.alpha) == ("off", "level")
    assert read(variant="consistency", id_loss_weight=0.2).strength == 0.2


def test_the_settings_of_the_paper_are_a_configuration():
    path = resources.files("idbench.methods.editidv2") / "paper.yaml"
    config = read_config(path, EditIDv2TrainingConfig)
    assert (config.strength, config.lr_schedule, config.mixed_precision) == (0.5, "cosine", "bf16")
    # the official script: batch 1, two accumulated, on each of the paper's four GPUs
    assert config.batch_size == 4 * 2 * config.micro_batch_size
    assert (config.learning_rate, config.weight_decay, config.max_grad_norm) == (1e-5, 0.01, 1.0)


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path, write_config):
    results = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        config = write_config(folder, steps=2, batch_size=4, micro_batch_size=1)
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command = [*launch, f"--nproc_per_node={processes}", "-m", "idbench"]
        done = subprocess.run(
            [*command, "train", "editidv2", str(config)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        results.append(load_file(folder / "out/final-checkpoint-2.safetensors"))
    # sums are taken in another order; a step of AdamW moves each weight by up to the rate, 3e-3
    for key, tensor in results[0].items():
        torch.testing.assert_close(results[1][key], tensor, atol=3e-4, rtol=0)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"stepz": 3}, r"train\.yaml: unknown settings stepz"),
        ({"size": 100}, "multiple of 16, got 100"),
        ({"variant": "c"}, r"train\.yaml: variant"),
        ({"data": None}, r"train\.yaml: data"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_a_wrong_configuration_names_file_and_key(tmp_path, write_config, setting, message):
    with pytest.raises(ValueError, match=message):
        train(write_config(tmp_path, **setting), lambda *report: None)


def test_other_settings_do_not_continue_a_run(tmp_path, write_config):
    losses(tmp_path / "run", write_config, steps=1, id_loss="off")
    config = write_config(tmp_path / "run", steps=2, id_loss="off", learning_rate=1e-4)
    with pytest.raises(ValueError, match=r"other settings: learning_rate \(0.003 there"):
        train(config, lambda *report: None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "at least one entry"),
        ('[{"image_file": "a.png", "text": "x"}]', "entry 0 must have the texts id_image"),
        ('[{"id_image": "no.png", "image": "no.png", "text": "x"}]', r"there is no .*no\.png"),
    ],
)
def test_a_list_that_is_none_is_refused(tmp_path, text, message):
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_pairs([tmp_path / "list.json"], [tmp_path])


def test_several_lists_are_joined(pairs_folder):
    one = read_pairs([pairs_folder / "list.json"], [pairs_folder])
    two = read_pairs([pairs_folder / "list.json"] * 2, [pairs_folder] * 2)
    assert two == one + one
    with pytest.raises(ValueError, match="as many lists as folders, got 2 and 1"):
        read_pairs([pairs_folder / "list.json"] * 2, [pairs_folder])


def test_targets_are_cut_from_the_centre():
    from PIL import Image

    image = Image.new("RGB", (200, 100))
    image.paste((255, 255, 255), (50, 0, 150, 100))
    pixels = target_pixels(image, 64)
    assert pixels.shape == (3, 64, 64)
    assert (pixels[..., 2:-2] == 1).all()


def test_what_is_dropped():
    assert [(d.identity, d.text) for d in map(drop_of, (0.04, 0.07, 0.12, 0.2))] == [
        (True, False),
        (False, True),
        (True, True),
        (False, False),
    ]
