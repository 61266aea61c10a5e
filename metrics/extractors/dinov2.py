"""DINOv2 class tokens of whole images and of face crops.

Oquab et al. (arXiv 2304.07193), through transformers from a folder with `config.json` and
`model.safetensors` as Hugging Face publishes them. The embedding is the class token after the final
layer norm, which IBench's Dino and FGIS compare.
"""

from collections.abc import Callable
from pathlib import Path
from typing import cast

from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import Dinov2Config, Dinov2Model

from idbench.metrics.extractors.checkpoint import load_strictly, unfilled
from idbench.metrics.extractors.face_crop import CropRule
from idbench.metrics.extractors.face_network import FaceNetwork
from idbench.metrics.extractors.image_network import ImageNetwork
from idbench.metrics.extractors.network import Network
from idbench.metrics.extractors.preprocess import dinov2_pil
from idbench.metrics.weights import WeightStore

WIDTHS = {"dinov2_small": 384, "dinov2_base": 768}


def load_dinov2(folder: Path) -> nn.Module:
    """The model of a Hugging Face folder.

    Raises:
        CheckpointError: If weights and configuration do not fit.
    """
    config = Dinov2Config.from_json_file(str(folder / "config.json"))
    module = unfilled(lambda: Dinov2Model(config))
    path = folder / "model.safetensors"
    return load_strictly(module, load_file(path), path)


def class_token(module: nn.Module, images: Tensor) -> Tensor:
    """Class tokens `batch width` after the final layer norm."""
    run = cast("Callable[..., object]", module)
    hidden = run(pixel_values=images).last_hidden_state  # type: ignore[attr-defined]
    return cast("Tensor", hidden[:, 0])


def dinov2_image(
    store: WeightStore,
    model: str,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    batch_size: int | None = None,
) -> ImageNetwork:
    """The extractor `<model>.image`: `output` (width,), the class token of the whole image.

    Raises:
        MissingWeightsError: If the weights are absent.
    """
    return ImageNetwork(
        name=f"{model}.image",
        version=1,
        weights=store.digests(model),
        network=_network(store, model, device, dtype, batch_size),
        prepare=dinov2_pil,
        preprocessing="shorter side 256 bicubic (pil), centre 224",
        forward=class_token,
    )


def dinov2_face(
    store: WeightStore,
    model: str,
    rule: CropRule,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    batch_size: int | None = None,
) -> FaceNetwork:
    """The extractor `<model>.<rule>`: `output` (n, width), the class token of each face crop.

    Raises:
        MissingWeightsError: If the weights are absent.
    """
    return FaceNetwork(
        name=model,
        version=1,
        weights=store.digests(model),
        network=_network(store, model, device, dtype, batch_size),
        prepare=dinov2_pil,
        rule=rule,
        shape=(WIDTHS[model],),
        forward=class_token,
    )


def _network(
    store: WeightStore, model: str, device: str, dtype: str, batch_size: int | None
) -> Network:
    folder = store.locate(model, "config.json").parent
    return Network(lambda: load_dinov2(folder), device=device, dtype=dtype, batch_size=batch_size)
