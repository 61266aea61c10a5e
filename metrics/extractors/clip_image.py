"""CLIP embeddings of images, for each preprocessing that a published scorer uses."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from idbench.metrics.extractors import preprocess
from idbench.metrics.extractors.clip_network import clip_network
from idbench.metrics.extractors.image_network import ImageNetwork
from idbench.metrics.weights import WeightStore

Preprocessing = Literal["pil", "ibench", "ibench_no_antialias", "aesthetic"]

PREPROCESSING: Mapping[Preprocessing, Callable[[NDArray[np.uint8]], Tensor]] = {
    "pil": preprocess.clip_pil,
    "ibench": preprocess.clip_ibench,
    "ibench_no_antialias": partial(preprocess.clip_ibench, antialias=False),
    "aesthetic": preprocess.clip_aesthetic,
}


def clip_image(
    store: WeightStore,
    model: str,
    *,
    preprocessing: Preprocessing = "pil",
    device: str = "cpu",
    dtype: str = "float32",
    batch_size: int | None = None,
) -> ImageNetwork:
    """The extractor `<model>.image[.<preprocessing>]`: `output` (d,), not normalised.

    Args:
        store: Where the weights lie.
        model: A CLIP entry of the catalogue, such as "clip_l14".
        preprocessing: "pil" is CLIP's own; the others are IBench's.
        device: Where the network runs.
        dtype: "float16" is what IBench computes in on CUDA, "float32" on a CPU.
        batch_size: Images per pass; None picks by device.

    Raises:
        MissingWeightsError: If the weights are absent.
    """
    suffix = "" if preprocessing == "pil" else f".{preprocessing}"
    return ImageNetwork(
        name=f"{model}.image{suffix}",
        version=1,
        weights=store.digests(model),
        network=clip_network(store, model, device=device, dtype=dtype, batch_size=batch_size),
        prepare=PREPROCESSING[preprocessing],
        preprocessing=preprocessing,
        forward=encode_image,
    )


def encode_image(module: nn.Module, images: Tensor) -> Tensor:
    """Projected embeddings `batch d` of a CLIP model."""
    return cast("Callable[[Tensor], Tensor]", module.encode_image)(images)
