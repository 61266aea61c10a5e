import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from idbench.methods.common.training import make_accelerator, read_config
from idbench.methods.dynamicid.checkpoints import (
    build_keypoint_encoder,
    build_reconfigurator,
    read_state_dict,
)
from idbench.methods.dynamicid.faces import FaceAnalyser
from idbench.methods.dynamicid.keypoints import draw_landmarks, landmark_tensor
from idbench.methods.dynamicid.losses import latent_diffusion_consistency
from idbench.methods.dynamicid.reconfiguration import (
    ConsistencyTeacher,
    Noised,
    ReconfigurationConfig,
    draw_episode,
    perturbed_map,
)
from idbench.methods.dynamicid.token_cache import CachedIdentity
from idbench.methods.dynamicid.train_imr import Stage, train
from idbench.methods.dynamicid.variface import Portrait, write_landmarks
from idbench.methods.dynamicid.weights import keypoint_file

SETTINGS = {
    "steps": 4,
    "targets_per_step": 3,
    "resolution": 64,
    "imr_dim": 64,
    "keypoint_width_divisor": 8,
    "learning_rate": 0.003,
    "checkpoint_every": 2,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def faces(tmp_path_factory, astronaut, tiny_files):
    """Two identities of four pictures, and a person of KDEF with three."""
    folder = tmp_path_factory.mktemp("faces")
    analyser = FaceAnalyser(tiny_files.face_models)
    rng = np.random.default_rng(0)

    def add(path, prompt=None):
        path.parent.mkdir(parents=True, exist_ok=True)
        x, y = rng.integers(0, 120, size=2)
        astronaut.crop((x, y, x + 380, y + 380)).resize((96, 96)).save(path)
        write_landmarks(path, analyser)
        if prompt:
            path.with_suffix(".txt").write_text(prompt)

    for identity in range(2):
        for number, word in enumerate(("happy", "sad", "angry", "afraid")):
            add(folder / "variface" / str(identity) / f"{number}.png", f"in a {word} expression")
    for code in ("AF01ANS", "AF01HAFL", "AF01NEHR"):
        add(folder / "kdef" / "AF01" / f"{code}.JPG")
    return folder


@pytest.fixture
def configure(tmp_path, faces, tiny_files, tmp_path_factory):
    cache = tmp_path_factory.getbasetemp() / "imr-tokens"

    def write(name="run", **settings):
        path = tmp_path / f"{name}.yaml"
        given = {
            "output": name,
            "data": str(faces / "variface"),
            "cache": str(cache),
            "weights": str(tiny_files.base.parent),
            **SETTINGS,
            **settings,
        }
        path.write_text(json.dumps(given))
        return path

    return write


def quiet(step, steps, values):
    pass


def equal_files(first, second):
    first, second = load_file(first), load_file(second)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def log_of(result):
    lines = (result.parent / "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    """Five pictures whose tokens, texts and maps are recognisable."""
    folder = tmp_path_factory.mktemp("cached")
    portraits = []
    for number in range(5):
        point = np.array([[40.0 + 80 * number, 256.0]])
        path = folder / f"{number}_landmark.png"
        Image.fromarray(draw_landmarks(point)).save(path)
        portraits.append(Portrait(folder / f"{number}.png", f"face {number}", path))
    numbers = torch.arange(5.0)
    return CachedIdentity(
        "0",
        tuple(portraits),
        numbers[:, None, None].expand(5, 4, 8).clone(),
        numbers[:, None].expand(5, 6).clone(),
    )


def test_an_episode_keeps_pictures_and_their_features_together(cached):
    rng = np.random.default_rng(1)
    episode = draw_episode(cached, rng, targets=32, landmark_noise=0.0)
    assert episode.target_tokens.shape == (32, 4, 8)
    source = int(episode.source_tokens[0, 0, 0])
    order = [source, *(int(tokens[0, 0]) for tokens in episode.target_tokens)]
    assert [int(text[0]) for text in episode.texts] == order
    assert [portrait.prompt for portrait in episode.targets] == [f"face {n}" for n in order[1:]]
    for number, landmark_map in zip(order, episode.maps, strict=True):
        expected = landmark_tensor(draw_landmarks(np.array([[40.0 + 80 * number, 256.0]])))
        assert torch.equal(landmark_map, expected)
    assert len(set(order[1:])) == 5  # 32 draws with replacement of 5 pictures


def test_all_other_pictures_of_kdef_are_targets(cached):
    episode = draw_episode(cached, np.random.default_rng(1), targets=None, landmark_noise=0.0)
    source = int(episode.source_tokens[0, 0, 0])
    targets = [int(tokens[0, 0]) for tokens in episode.target_tokens]
    assert sorted([source, *targets]) == [0, 1, 2, 3, 4]


def test_landmarks_move_unless_told_not_to(cached):
    portrait = cached.portraits[2]
    still = perturbed_map(portrait, np.random.default_rng(0), 0.0)
    maps = [perturbed_map(portrait, np.random.default_rng(seed), 1.0) for seed in range(20)]
    assert (still == 1.0).sum() == 1
    assert any(not torch.equal(still, moved) for moved in maps)


@pytest.fixture(scope="module")
def teacher(load):
    return ConsistencyTeacher(load().unet, tokens_per_person=4, threshold=0.3)


@pytest.fixture
def noised():
    torch.manual_seed(0)
    latents, timesteps = torch.randn(5, 4, 8, 8), torch.tensor([10, 300, 500, 700, 999])
    text = torch.randn(5, 77, 64)
    return lambda part: Noised(latents[part], timesteps[part], text[part])


def test_the_consistency_of_equal_tokens_is_0(teacher, noised):
    tokens = torch.randn(5, 4, 64)
    loss, gradient = teacher.gradient(tokens, tokens.clone(), noised)
    assert loss.item() < 1e-12
    assert gradient.abs().max() < 1e-6


def test_its_gradient_is_that_of_the_loss(teacher, noised):
    predicted, target = torch.randn(5, 4, 64), torch.randn(5, 4, 64)
    leaf = predicted.clone().requires_grad_()
    inputs = noised(slice(0, 5))
    direct = latent_diffusion_consistency(
        teacher.noise(leaf, inputs), teacher.noise(target, inputs)
    )
    direct.backward()
    for chunk in (None, 2):
        loss, gradient = teacher.gradient(predicted, target, noised, chunk)
        torch.testing.assert_close(loss, direct.detach(), rtol=1e-5, atol=0)
        error = (gradient - leaf.grad).norm() / leaf.grad.norm()
        assert error < 1e-4


def test_the_target_branch_gets_no_gradient_and_the_unet_none(teacher, noised):
    predicted = torch.randn(5, 4, 64)
    target = torch.randn(5, 4, 64, requires_grad=True)
    teacher.gradient(predicted, target, noised)
    assert target.grad is None
    assert all(parameter.grad is None for parameter in teacher.unet.parameters())


def test_without_consistency_no_unet_is_kept(configure):
    config = read_config(configure(ldc_weight=0.0), ReconfigurationConfig)
    stage = Stage(config, make_accelerator(config))
    assert stage.teacher is None
    assert stage.vae is None
    log = log_of(train(configure(ldc_weight=0.0, steps=1), quiet))
    assert "ldc" not in log[0]


def test_training_lowers_both_losses(configure):
    result = train(configure(steps=60), quiet)
    log = log_of(result)
    for name in ("dfm", "ldc"):
        first = np.mean([line[name] for line in log[:10]])
        last = np.mean([line[name] for line in log[-10:]])
        assert last < 0.6 * first, (name, first, last)
    build_reconfigurator(read_state_dict(result), result)
    keypoints = keypoint_file(result)
    build_keypoint_encoder(read_state_dict(keypoints), keypoints)


def test_an_interrupted_run_goes_on_bit_for_bit(configure, faces):
    settings = {"kdef": str(faces / "kdef"), "kdef_share": 0.5, "identities_per_step": 2}
    whole = train(configure("whole", **settings), quiet)

    def interrupt(step, steps, values):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(configure("parts", **settings), interrupt)
    parts = train(configure("parts", **settings), quiet)
    assert equal_files(whole, parts)
    assert equal_files(keypoint_file(whole), keypoint_file(parts))
    assert log_of(whole) == log_of(parts)


@pytest.mark.parametrize(
    "settings", [{"micro_batch_size": 1}, {"gradient_checkpointing": True}], ids=str
)
def test_saving_memory_gives_the_same_step(configure, settings):
    plain = log_of(train(configure("plain", steps=2), quiet))
    saving = log_of(train(configure("saving", steps=2, **settings), quiet))
    for first, second in zip(plain, saving, strict=True):
        assert first == pytest.approx(second, rel=1e-4)


@pytest.mark.parametrize("settings", [{"ldc_prompt": "common"}, {"landmark_noise": 0.0}], ids=str)
def test_official_switches_change_the_losses(configure, settings):
    ours = log_of(train(configure("ours", steps=1), quiet))
    official = log_of(train(configure("official", steps=1, **settings), quiet))
    assert ours != official


def test_kdef_comes_with_its_share(configure, faces):
    config = read_config(configure(kdef=str(faces / "kdef")), ReconfigurationConfig)
    stage = Stage(config, make_accelerator(config))
    draws = np.random.default_rng(0).uniform(size=(20_000, 2))
    drawn = [stage._draw_identity(*draw, index=0) for draw in draws]
    share = sum(cache is stage.kdef_cache for _, cache, _ in drawn) / len(drawn)
    assert share == pytest.approx(0.05, abs=0.006)
    assert {targets for _, _, targets in drawn} == {None, 3}


def test_released_weights_can_be_trained_further(configure, tiny_files):
    result = train(configure(steps=1, initial=str(tiny_files.imr), learning_rate=0.0), quiet)
    before, after = read_state_dict(tiny_files.imr), read_state_dict(result)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_tokens_of_another_encoder_stop_the_run(configure, tmp_path, tiny_files):
    cache = str(tmp_path / "tokens")
    train(configure("first", steps=1, cache=cache), quiet)
    content = torch.load(tiny_files.saa, weights_only=True)
    content["proj_module"]["norm.bias"] += 1.0
    torch.save(content, tmp_path / "other.bin")
    with pytest.raises(ValueError, match="another face encoder"):
        train(configure("second", steps=1, cache=cache, saa=str(tmp_path / "other.bin")), quiet)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"mixed_precision": "fp16"}, "underflow"),
        ({"kdef_share": 1.5}, "kdef_share"),
        ({"targets_per_step": 0}, "targets_per_step"),
        ({"imr_dim": 100}, "imr_dim"),
    ],
)
def test_wrong_settings_are_named(configure, settings, named):
    with pytest.raises(ValueError, match=named):
        read_config(configure(**settings), ReconfigurationConfig)


PROGRAM = """
import sys
from pathlib import Path
from idbench.methods.dynamicid.train_imr import train
train(Path(sys.argv[1]), lambda step, steps, values: print(step, flush=True))
"""


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_bit_for_bit(configure):
    whole = train(configure("whole"), quiet)
    program = [sys.executable, "-c", PROGRAM, str(configure("parts"))]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.strip() == "3":
                os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    again = subprocess.run(program, capture_output=True, text=True, check=True)
    assert again.stdout.split()[0] == "3"
    assert equal_files(whole, whole.parent.parent / "parts" / whole.name)
