"""Acceptance check 13, and what a training sample is."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from idbench.methods.common.training import rng_of
from idbench.methods.flexip.preprocessing import clip_input, on_white_square
from idbench.methods.flexip.samples import (
    SampleConfig,
    TrainingData,
    drop_of,
    make_sample,
    target_pixels,
    variant_before,
)
from idbench.methods.flexip.shards import preview

CONFIG = SampleConfig(
    seed=3,
    resolution=64,
    image_size=28,
    dino_size=42,
    variant_share=0.5,
    drop_image=0.05,
    drop_text=0.05,
    drop_both=0.05,
    gate_jitter=0.0,
    window=2,
)
KEPT = replace(CONFIG, drop_image=0.0, drop_text=0.0, drop_both=0.0)


def test_each_kind_of_dropping_has_its_share_and_none_meet_by_chance():
    draws = np.random.default_rng(0).random(100_000)
    dropped = [drop_of(draw) for draw in draws]
    image = np.array([one.image for one in dropped])
    text = np.array([one.text for one in dropped])
    for share in ((image & ~text).mean(), (text & ~image).mean(), (image & text).mean()):
        assert share == pytest.approx(0.05, abs=0.003)
    assert (~image & ~text).mean() == pytest.approx(0.85, abs=0.005)


@pytest.mark.parametrize(
    ("draw", "image", "text"),
    [
        (0.0, True, False),
        (0.049, True, False),
        (0.05, False, True),
        (0.099, False, True),
        (0.1, True, True),
        (0.149, True, True),
        (0.151, False, False),
        (0.99, False, False),
    ],
)
def test_where_one_kind_of_dropping_ends(draw, image, text):
    drop = drop_of(draw)
    assert (drop.image, drop.text) == (image, text)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_the_two_kinds_of_data_are_interleaved_in_their_ratio(share):
    for count in (1, 10, 1000):
        assert abs(variant_before(count, share) - share * count) <= 1
    steps = [variant_before(n + 1, share) - variant_before(n, share) for n in range(100)]
    assert set(steps) <= {0, 1}


@pytest.fixture(scope="module")
def image_row(shards):
    return preview(shards, "invariant", 1)[0]


@pytest.fixture(scope="module")
def video_row(shards):
    return preview(shards, "variant", 1)[0]


def opened(row, index):
    from io import BytesIO

    with Image.open(BytesIO(row.pictures[index])) as image:
        return image.convert("RGB")


def test_an_image_is_its_own_reference(image_row):
    sample = make_sample(image_row, rng_of(0), KEPT)
    assert not sample.varied
    assert sample.caption == "a stripy thing, number 0"
    assert torch.equal(sample.target, target_pixels(opened(image_row, 0), 64))
    assert sample.clip_pixels.shape == (3, 28, 28)
    assert sample.dino_pixels.shape == (3, 42, 42)
    assert sample.noise.shape == sample.posterior.shape == (4, 8, 8)


def test_reference_and_target_of_a_video_are_different_frames(video_row):
    targets = [target_pixels(opened(video_row, k), 64) for k in range(3)]
    seen = [clip_input(on_white_square(opened(video_row, k)), 28) for k in range(3)]
    pairs = set()
    for draw in range(60):
        sample = make_sample(video_row, rng_of(draw), KEPT)
        assert sample.varied
        target = next(k for k in range(3) if torch.equal(sample.target, targets[k]))
        reference = next(k for k in range(3) if torch.equal(sample.clip_pixels, seen[k]))
        assert sample.caption == f"thing 0 at angle {target}"  # the target's, not the reference's
        pairs.add((reference, target))
    assert pairs == {(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)}


def test_dropped_text_is_an_empty_caption(image_row):
    dropped = make_sample(image_row, rng_of(0), replace(KEPT, drop_text=1.0))
    assert (dropped.caption, dropped.drop_image) == ("", False)
    both = make_sample(image_row, rng_of(0), replace(KEPT, drop_both=1.0))
    assert (both.caption, both.drop_image) == ("", True)


def test_draws_have_their_distributions(image_row):
    samples = [
        make_sample(image_row, rng_of(n), replace(KEPT, gate_jitter=0.2)) for n in range(400)
    ]
    timesteps = np.array([sample.timestep for sample in samples])
    assert 0 <= timesteps.min() < 20
    assert 980 <= timesteps.max() < 1000
    assert timesteps.mean() == pytest.approx(499.5, abs=60)  # four standard errors
    jitter = np.array([sample.jitter for sample in samples])
    assert np.abs(jitter).max() <= 0.2
    assert jitter.std() == pytest.approx(0.2 / 3**0.5, rel=0.15)
    noise = torch.stack([sample.noise for sample in samples])
    assert noise.mean().abs() < 0.02
    assert noise.std().item() == pytest.approx(1.0, abs=0.02)
    posterior = torch.stack([sample.posterior for sample in samples])
    assert (noise * posterior).mean().abs() < 0.02  # they are not the same draw


def test_the_target_is_the_middle_of_the_picture():
    picture = Image.new("RGB", (128, 64))
    picture.paste((255, 255, 255), (32, 0, 96, 64))
    assert (target_pixels(picture, 64) == 1.0).all()
    assert target_pixels(Image.new("RGB", (100, 333)), 64).shape == (3, 64, 64)
    assert (target_pixels(Image.new("RGB", (64, 64)), 64) == -1.0).all()


def same(one, two):
    return all(
        torch.equal(getattr(one, name), getattr(two, name))
        if isinstance(getattr(one, name), torch.Tensor)
        else getattr(one, name) == getattr(two, name)
        for name in one.__dataclass_fields__
    )


def data(shards, **settings):
    return TrainingData(shards, CONFIG, micro_batch_size=4, **settings)


def test_half_of_the_samples_are_variant(shards):
    batches = [data(shards)[q] for q in range(6)]
    assert torch.cat([batch.varied for batch in batches]).float().mean() == 0.5


def test_a_micro_batch_is_a_function_of_its_number(shards):
    one = data(shards)
    in_order = [one[q] for q in range(12)]
    assert same(data(shards)[11], in_order[11])
    assert same(one[2], in_order[2])
    assert not same(in_order[0], in_order[1])


def test_processes_see_different_samples(shards):
    first, second = (data(shards, process=process, processes=2)[0] for process in range(2))
    assert not torch.equal(first.noise, second.noise)


@pytest.mark.slow
def test_reading_processes_change_nothing(shards):
    lanes = data(shards, lanes_here=2)
    expected = [lanes[q] for q in range(5)]
    loader = DataLoader(
        data(shards, lanes_here=2),
        batch_size=None,
        sampler=range(5),
        num_workers=2,
        multiprocessing_context="spawn",
    )
    for found, batch in zip(loader, expected, strict=True):
        assert same(found, batch)


def test_a_pool_that_is_asked_for_must_be_there(shards, tmp_path):
    for shard in shards.glob("invariant-*"):
        (tmp_path / shard.name).symlink_to(shard)
    with pytest.raises(ValueError, match=r"no variant-\*.parquet"):
        TrainingData(tmp_path, CONFIG, micro_batch_size=1)
    only_images = replace(CONFIG, variant_share=0.0)
    batch = TrainingData(tmp_path, only_images, micro_batch_size=4)[3]
    assert not batch.varied.any()
