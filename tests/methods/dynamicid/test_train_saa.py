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

from idbench.methods.common.pretrained import load_stable_diffusion
from idbench.methods.common.prompt_encoder import PromptEncoder
from idbench.methods.common.training import read_config
from idbench.methods.dynamicid.anchoring import AnchoringConfig, draw_dropped, make_batch
from idbench.methods.dynamicid.anchoring_data import (
    Caption,
    FeatureCache,
    Sample,
    read_captions,
    refusal,
    training_pixels,
)
from idbench.methods.dynamicid.checkpoints import read_saa
from idbench.methods.dynamicid.faces import FaceAnalyser
from idbench.methods.dynamicid.losses import noise_prediction_loss
from idbench.methods.dynamicid.train_saa import make_model, train

SETTINGS = {
    "steps": 4,
    "batch_size": 4,
    "resolution": 64,
    "lora_rank": 4,
    "learning_rate": 0.01,
    "checkpoint_every": 2,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory, astronaut):
    """Six crops of a photograph with captions, and one picture without a face."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    entries = []
    for number in range(6):
        x, y = rng.integers(0, 120, size=2)
        picture = astronaut.crop((x, y, x + 380, y + 380)).resize((96, 80))
        picture.save(folder / f"{number}.png")
        entries.append({"image_file": f"{number}.png", "text": f"an astronaut, number {number}"})
    Image.new("RGB", (96, 96)).save(folder / "black.png")
    entries.append({"image_file": "black.png", "text": "nothing"})
    path = folder / "captions.json"
    path.write_text(json.dumps(entries))
    return path


@pytest.fixture
def configure(tmp_path, photographs, tiny_files, tmp_path_factory):
    """Writes a configuration; its cache of features is shared by all tests of the module."""
    cache = tmp_path_factory.getbasetemp() / "saa-features"

    def write(name="run", **settings):
        path = tmp_path / f"{name}.yaml"
        given = {
            "output": name,
            "data": str(photographs),
            "cache": str(cache),
            "weights": str(tiny_files.base.parent),
            **SETTINGS,
            **settings,
        }
        path.write_text(json.dumps(given))  # JSON is YAML
        return path

    return write


def quiet(step, steps, values):
    pass


def equal_files(first, second):
    first, second = load_file(first), load_file(second)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.fixture(scope="module")
def config():
    return AnchoringConfig(output="out", steps=1, data="data", weights="weights", seed=5)


def test_dropout_rates(config):
    draws = np.random.default_rng(0).uniform(size=100_000)
    dropped = [draw_dropped(draw, config) for draw in draws]
    image, text, both = (
        sum((one.image, one.text) == kind for one in dropped) / len(dropped)
        for kind in ((True, False), (False, True), (True, True))
    )
    for rate in (image, text, both):
        assert rate == pytest.approx(0.05, abs=0.003)


def sample(seed):
    rng = torch.Generator().manual_seed(seed)
    moments = torch.stack([torch.randn(4, 8, 8, generator=rng), torch.rand(4, 8, 8, generator=rng)])
    return Sample(
        "a man", torch.randn(512, generator=rng), torch.randn(5, 32, generator=rng), moments
    )


def test_a_batch_is_noised_by_equation_and_drops_what_it_says(config):
    nobody = torch.full((5, 32), 7.0)
    samples = [(place, sample(place)) for place in range(64)]
    batch = make_batch(samples, 3, config, nobody, 0.18215)
    alphas = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, dim=0)
    a = alphas[batch.timesteps][:, None, None, None]
    latents = (batch.noisy_latents - (1 - a).sqrt() * batch.noise) / a.sqrt()
    for row, (_, one) in zip(latents, samples, strict=True):
        scaled = row / 0.18215  # within the posterior: mean + std times a standard normal
        z = ((scaled - one.moments[0]) / one.moments[1]).flatten()
        assert abs(z.median()) < 0.6
    without_face = (batch.id_embeds == 0).all(dim=1)
    assert torch.equal(without_face, (batch.clip_hidden == 7.0).all(dim=2).all(dim=1))
    assert 1 <= without_face.sum() <= 16  # 10 % of 64
    assert {"", "a man"} == set(batch.prompts)


def test_a_sample_s_draws_do_not_depend_on_its_neighbours(config):
    nobody = torch.zeros(5, 32)
    pair = [(4, sample(1)), (9, sample(2))]
    together = make_batch(pair, 3, config, nobody, 0.18215)
    alone = make_batch(pair[1:], 3, config, nobody, 0.18215)
    assert torch.equal(together.noisy_latents[1:], alone.noisy_latents)
    assert torch.equal(together.timesteps[1:], alone.timesteps)


def test_a_dropped_face_has_the_tokens_of_nobody(load, config):
    encoder = load().identity.face_encoder
    nobody = encoder.zero_clip_hidden()
    places = range(200)
    samples = [
        (place, Sample("", torch.randn(512), torch.randn(nobody.shape), torch.zeros(2, 4, 8, 8)))
        for place in places
    ]
    batch = make_batch(samples, 0, config, nobody, 0.18215)
    dropped = (batch.id_embeds == 0).all(dim=1).nonzero()[0]
    tokens = encoder.projection(batch.id_embeds[dropped], batch.clip_hidden[dropped])
    assert torch.equal(tokens, encoder.unconditional_tokens())


def test_the_target_is_the_middle_of_the_picture():
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, 32:96] = 255
    target = training_pixels(Image.fromarray(pixels), 64)
    assert target.shape == (3, 64, 64)
    assert (target == 1.0).all()


def test_pictures_are_refused_with_a_reason(tiny_files, astronaut):
    analyser = FaceAnalyser(tiny_files.face_models)
    assert refusal(analyser, astronaut) is None
    assert refusal(analyser, Image.new("RGB", (64, 64))) == "0 faces"


@pytest.mark.parametrize("content", ["{}", "[]", '[{"image_file": "a.png"}]', "not json"])
def test_a_list_of_another_form_is_refused(tmp_path, content):
    path = tmp_path / "captions.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"captions\.json"):
        read_captions(path)


def test_a_cache_of_other_settings_is_another_folder(tmp_path):
    first, same, other = (
        FeatureCache(tmp_path, {"resolution": size}) for size in ("64", "64", "512")
    )
    assert first.folder == same.folder
    assert first.folder != other.folder


def test_only_attention_and_projection_are_trained(configure, tiny_files):
    config = read_config(configure(), AnchoringConfig)
    *_, unet = load_stable_diffusion(tiny_files.base, "cpu", torch.float32)
    model = make_model(unet, 32, config)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    expected = {f"projection.{name}" for name, _ in model.projection.named_parameters()}
    expected |= {
        f"unet.{name}" for name, _ in model.unet.named_parameters() if ".processor." in name
    }
    assert trained == expected
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_training_lowers_the_loss_on_draws_that_it_has_not_seen(configure, tiny_files):
    config = read_config(configure(steps=40, batch_size=6), AnchoringConfig)
    result = train(configure(steps=40, batch_size=6), quiet)
    tokenizer, text_encoder, _, unet = load_stable_diffusion(tiny_files.base, "cpu", torch.float32)
    prompts = PromptEncoder(tokenizer, text_encoder)
    captions = read_captions(config.data)
    (folder,) = [path for path in config.cache.iterdir() if path.is_dir()]
    cache = FeatureCache(config.cache, json.loads((folder / "made_with.json").read_text()))
    samples = list(enumerate(cache.load(caption) for caption in cache.usable(captions)))

    @torch.no_grad()
    def loss(model):
        batches = [make_batch(samples, 1000 + k, config, cache.nobody(), 0.18215) for k in range(8)]
        return sum(
            noise_prediction_loss(
                model(
                    batch.noisy_latents,
                    batch.timesteps,
                    prompts.tokens(batch.prompts),
                    batch.id_embeds,
                    batch.clip_hidden,
                ),
                batch.noise,
            ).item()
            for batch in batches
        )

    model = make_model(unet, 32, config)
    before = loss(model)
    states = read_saa(result)
    model.projection.load_state_dict(states.projection)
    model.processors[0].load_state_dict(states.attention)
    assert loss(model) < 0.95 * before


def test_an_interrupted_run_goes_on_bit_for_bit(configure):
    whole = train(configure("whole"), quiet)

    def interrupt(step, steps, values):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(configure("parts"), interrupt)
    seen = []
    parts = train(configure("parts"), lambda step, steps, values: seen.append(step))
    assert seen == [3, 4]  # the last checkpoint is of step 2
    assert equal_files(whole, parts)
    logs = [(path.parent / "log.jsonl").read_text() for path in (whole, parts)]
    assert logs[0] == logs[1]


def test_micro_batches_give_the_same_step(configure):
    whole = train(configure("whole", steps=1, learning_rate=1e-4), quiet)
    parts = train(configure("parts", steps=1, learning_rate=1e-4, micro_batch_size=1), quiet)
    first, second = (
        json.loads((path.parent / "log.jsonl").read_text())["loss"] for path in (whole, parts)
    )
    assert first == pytest.approx(second, rel=1e-5)


def test_gradient_checkpointing_gives_the_same_step(configure):
    plain = train(configure("plain", steps=1), quiet)
    saving = train(configure("saving", steps=1, gradient_checkpointing=True), quiet)
    assert equal_files(plain, saving)


def test_released_weights_can_be_trained_further(configure, tiny_files):
    result = train(configure(steps=1, initial=str(tiny_files.saa), learning_rate=0.0), quiet)
    before, after = read_saa(tiny_files.saa), read_saa(result)
    assert all(torch.equal(before.attention[k], after.attention[k]) for k in before.attention)
    assert all(torch.equal(before.projection[k], after.projection[k]) for k in before.projection)


def test_pictures_without_use_are_an_error_when_there_are_no_others(configure, tmp_path):
    Image.new("RGB", (80, 80)).save(tmp_path / "black.png")
    captions = tmp_path / "black.json"
    captions.write_text(json.dumps([{"image_file": "black.png", "text": "nothing"}]))
    with pytest.raises(ValueError, match=r"none of 1 pictures .*0 faces"):
        train(configure(data=str(captions)), quiet)


def test_absent_weights_are_named(configure, tmp_path):
    with pytest.raises(FileNotFoundError, match="hf download"):
        train(configure(weights=str(tmp_path)), quiet)


PROGRAM = """
import sys
from pathlib import Path
from idbench.methods.dynamicid.train_saa import train
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


def test_captions_are_relative_to_the_list(tmp_path):
    path = tmp_path / "captions.json"
    path.write_text('[{"image_file": "a/b.png", "text": "c"}]')
    assert read_captions(path) == [Caption(tmp_path / "a" / "b.png", "c")]
    assert read_captions(path, tmp_path / "x") == [Caption(tmp_path / "x" / "a" / "b.png", "c")]
