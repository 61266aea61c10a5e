"""MUSIQ: image quality from patches of an image at three scales.

Ke et al. (arXiv 2108.05997), in the port of pyiqa, whose licence is PolyForm-Noncommercial; it is
of the extra `iqa` only. IBench feeds it values of 0 to 255 where it expects 0 to 1.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from idbench.metrics.extractors.checkpoint import load_strictly, read_pickle
from idbench.metrics.extractors.image_network import ImageNetwork
from idbench.metrics.extractors.musiq_attention import fuse_attention
from idbench.metrics.extractors.network import Network
from idbench.metrics.extractors.preprocess import to_unit
from idbench.metrics.weights import WeightStore


def load_musiq(path: Path, **architecture: Any) -> nn.Module:
    """The network with the published weights.

    Args:
        path: A checkpoint of pyiqa: a state dict, or one under the key `params`.
        architecture: Arguments of pyiqa's `MUSIQ` where it is not the published shape.

    Raises:
        ModuleNotFoundError: If pyiqa is not installed, with the command that gets it.
        CheckpointError: If the file is not that checkpoint.
    """
    try:
        from pyiqa.archs.musiq_arch import MUSIQ, MultiHeadAttention
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'MUSIQ needs pyiqa (non-commercial licence): pip install "idbench[iqa]"'
        ) from error
    saved = read_pickle(path)
    state = saved.get("params", saved) if isinstance(saved, dict) else saved
    state = {key.removeprefix("module."): value for key, value in state.items()}
    module: nn.Module = MUSIQ(pretrained=False, **architecture)
    load_strictly(module, state, path)
    fuse_attention(module, MultiHeadAttention)
    # The layout in which convolutions and pooling of the patches run fastest on a CPU.
    return cast(nn.Module, cast(Any, module).to(memory_format=torch.channels_last))


def quality(module: nn.Module, images: Tensor) -> Tensor:
    """Mean opinion scores `batch 1`."""
    run = cast("Callable[[Tensor], Tensor]", module)
    return run(images).reshape(len(images), 1)


def raw_pixels(image: NDArray[np.uint8]) -> Tensor:
    """IBench's input: the image at its own size with values of 0 to 255."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()


def musiq(
    store: WeightStore,
    model: str,
    *,
    preprocessing: Literal["ibench", "strict"],
    device: str = "cpu",
    dtype: str = "float32",
    batch_size: int | None = None,
) -> ImageNetwork:
    """The extractor `<model>[.ibench]`: `output` (1,), the score, about 0 to 100.

    Args:
        store: Where the weights lie.
        model: "musiq_spaq" or "musiq_koniq".
        preprocessing: "strict" feeds [0, 1] as the network was trained on, "ibench" 0 to 255.
        device: Where the network runs.
        dtype: Arithmetic of the network.
        batch_size: Images of one size per pass; None picks by device.

    Raises:
        MissingWeightsError: If the weights are absent.
    """
    path = store.locate(model)
    return ImageNetwork(
        name=model if preprocessing == "strict" else f"{model}.ibench",
        version=1,
        weights=store.digests(model),
        network=Network(
            lambda: load_musiq(path),
            device=device,
            dtype=dtype,
            batch_size=batch_size,
            cuda_batch=8,
        ),
        prepare=to_unit if preprocessing == "strict" else raw_pixels,
        preprocessing=f"native size, {'[0, 1]' if preprocessing == 'strict' else '[0, 255]'}",
        forward=quality,
    )
