"""Rows to training samples: which pictures, what is dropped, and every random number."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from idbench.methods.common.latent_sizes import VAE_FACTOR
from idbench.methods.common.training import normal, rng_of
from idbench.methods.flexip.preprocessing import clip_input, dino_input, on_white_square
from idbench.methods.flexip.shards import POOLS, Row, row_groups, shards_of
from idbench.methods.flexip.stream import RowStream

NUM_TIMESTEPS = 1000
LATENT_CHANNELS = 4
_DRAWS = 0x6703


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleConfig:
    """How samples are made. Attributes as in `FlexIPTrainingConfig`."""

    seed: int
    resolution: int
    image_size: int
    dino_size: int
    variant_share: float
    drop_image: float
    drop_text: float
    drop_both: float
    gate_jitter: float
    window: int


@dataclass(frozen=True, slots=True)
class Drop:
    """What a sample is trained without."""

    image: bool
    text: bool


def drop_of(
    draw: float, *, drop_image: float = 0.05, drop_text: float = 0.05, drop_both: float = 0.05
) -> Drop:
    """What one uniform draw from [0, 1) drops: three exclusive events, image, text, or both."""
    if draw < drop_image:
        return Drop(image=True, text=False)
    if draw < drop_image + drop_text:
        return Drop(image=False, text=True)
    both = draw < drop_image + drop_text + drop_both
    return Drop(image=both, text=both)


def variant_before(number: int, share: float) -> int:
    """How many of the first `number` samples are of the variant pool; the two are interleaved."""
    return int(number * share)


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Samples of one micro-batch.

    Attributes:
        target: (batch, 3, resolution, resolution) in [-1, 1].
        clip_pixels: The reference as CLIP sees it, (batch, 3, image_size, image_size).
        dino_pixels: The reference as DINOv2 sees it, (batch, 3, dino_size, dino_size).
        captions: Of the targets; empty where text is dropped.
        drop_image: (batch,) bool.
        varied: (batch,) bool, true for video and multi-view samples.
        jitter: (batch,) what is added to gamma.
        timesteps: (batch,) int64 in [0, 1000).
        noise: (batch, 4, resolution / 8, resolution / 8).
        posterior: As `noise`, for the VAE's posterior.
    """

    target: Tensor
    clip_pixels: Tensor
    dino_pixels: Tensor
    captions: list[str]
    drop_image: Tensor
    varied: Tensor
    jitter: Tensor
    timesteps: Tensor
    noise: Tensor
    posterior: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The tensors on a device."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in values.items()
        }
        return Batch(**moved)


class TrainingData(Dataset[Batch]):
    """Micro-batch after micro-batch of one process, each a function of its number alone.

    Micro-batch q is of lane q mod `lanes_here`, so that the reading processes, which take turns,
    each read their own files.
    """

    def __init__(
        self,
        folder: Path,
        config: SampleConfig,
        *,
        micro_batch_size: int,
        process: int = 0,
        processes: int = 1,
        lanes_here: int = 1,
    ) -> None:
        """Opens the shards of a folder.

        Args:
            folder: With shards of the pools that `variant_share` asks for.
            config: How samples are made.
            micro_batch_size: Samples of a micro-batch.
            process: Which training process this is, from 0.
            processes: How many there are.
            lanes_here: Lanes of each process.

        Raises:
            ValueError: If a pool has no rows.
        """
        self.config, self.size = config, micro_batch_size
        self.process, self.processes, self.lanes_here = process, processes, lanes_here
        self.groups = [row_groups(shards_of(folder, pool)) for pool in POOLS]
        shares = (1.0 - config.variant_share, config.variant_share)
        for pool, groups, share in zip(POOLS, self.groups, shares, strict=True):
            if share > 0 and not groups:
                raise ValueError(
                    f"{folder} has no {pool}-*.parquet, but variant_share is "
                    f"{config.variant_share}; pack such records with `idbench train flexip-shards`"
                )
        self._streams: dict[tuple[int, int], RowStream] = {}

    def __getitem__(self, q: int) -> Batch:
        """Micro-batch q of this process."""
        turn, lane = divmod(q, self.lanes_here)
        lane += self.process * self.lanes_here
        start = turn * self.size
        return collate([self.sample(lane, n) for n in range(start, start + self.size)])

    def sample(self, lane: int, number: int) -> "Sample":
        """Sample `number` of a lane."""
        share = self.config.variant_share
        before = variant_before(number, share)
        varied = variant_before(number + 1, share) > before
        row = self._stream(lane, int(varied))[before if varied else number - before]
        return make_sample(row, rng_of(self.config.seed, _DRAWS, lane, number), self.config)

    def _stream(self, lane: int, pool: int) -> RowStream:
        key = (lane, pool)
        if key not in self._streams:
            self._streams[key] = RowStream(
                self.groups[pool],
                seed=self.config.seed,
                pool=pool,
                lane=lane,
                lanes=self.processes * self.lanes_here,
                window=self.config.window,
            )
        return self._streams[key]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One sample; attributes as in `Batch`, without the batch."""

    target: Tensor
    clip_pixels: Tensor
    dino_pixels: Tensor
    caption: str
    drop_image: bool
    varied: bool
    jitter: float
    timestep: int
    noise: Tensor
    posterior: Tensor


def make_sample(row: Row, rng: np.random.Generator, config: SampleConfig) -> Sample:
    """The sample of a row: an image is its own reference; of frames, two different ones are drawn.

    Raises:
        ValueError: If a picture cannot be read.
    """
    varied = row.modality != "image"
    reference, target = rng.permutation(len(row.pictures))[:2] if varied else (0, 0)
    drop = drop_of(
        rng.random(),
        drop_image=config.drop_image,
        drop_text=config.drop_text,
        drop_both=config.drop_both,
    )
    square = on_white_square(_picture(row, reference))
    side = config.resolution // VAE_FACTOR
    shape = (LATENT_CHANNELS, side, side)
    return Sample(
        target=target_pixels(_picture(row, target), config.resolution),
        clip_pixels=clip_input(square, config.image_size),
        dino_pixels=dino_input(square, config.dino_size),
        caption="" if drop.text else row.captions[target],
        drop_image=drop.image,
        varied=varied,
        jitter=float(rng.uniform(-config.gate_jitter, config.gate_jitter)),
        timestep=int(rng.integers(NUM_TIMESTEPS)),
        noise=normal(rng, shape),
        posterior=normal(rng, shape),
    )


def _picture(row: Row, index: int) -> Image.Image:
    try:
        with Image.open(BytesIO(row.pictures[index])) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except OSError as error:
        raise ValueError(f"picture {index} of {row.subject_id} cannot be read: {error}") from error


def target_pixels(picture: Image.Image, resolution: int) -> Tensor:
    """(3, resolution, resolution) in [-1, 1]: short side resized (bicubic), centre cropped."""
    scale = resolution / min(picture.size)
    width, height = (max(resolution, round(side * scale)) for side in picture.size)
    resized = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = ((side - resolution) // 2 for side in resized.size)
    square = resized.crop((left, top, left + resolution, top + resolution))
    pixels = torch.from_numpy(np.asarray(square, dtype=np.float32) / np.float32(127.5) - 1)
    return pixels.permute(2, 0, 1).contiguous()


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples as one batch."""

    def stacked(name: str) -> Tensor:
        return torch.stack([getattr(sample, name) for sample in samples])

    def listed(name: str) -> Tensor:
        return torch.tensor([getattr(sample, name) for sample in samples])

    return Batch(
        **{
            name: stacked(name)
            for name in ("target", "clip_pixels", "dino_pixels", "noise", "posterior")
        },
        captions=[sample.caption for sample in samples],
        drop_image=listed("drop_image"),
        varied=listed("varied"),
        jitter=listed("jitter"),
        timesteps=listed("timestep"),
    )
