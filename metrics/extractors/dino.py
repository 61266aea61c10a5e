"""DINO (version 1) class tokens of images.

Caron et al. (arXiv 2104.14294); `dino_deitsmall{16,8}_pretrain.pth` of
facebookresearch/dino. DreamBooth's DINO score uses ViT-S/16, DreamBench++ ViT-S/8.
"""

from pathlib import Path

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from idbench.metrics.extractors.checkpoint import (
    CheckpointError,
    load_strictly,
    read_pickle,
    unfilled,
)
from idbench.metrics.extractors.image_network import ImageNetwork
from idbench.metrics.extractors.network import Network
from idbench.metrics.extractors.preprocess import imagenet_pil
from idbench.metrics.weights import WeightStore

HEAD_WIDTH = 64


def load_dino(path: Path) -> nn.Module:
    """The vision transformer with the published weights; its shape follows from the file.

    Raises:
        CheckpointError: If the file is not such a state dict.
    """
    state: dict[str, Tensor] = read_pickle(path)
    try:
        width, _, _, patch = state["patch_embed.proj.weight"].shape
        tokens = state["pos_embed"].shape[1] - 1
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is no state dict of a DINO vision transformer") from error
    depth = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
    module = unfilled(
        lambda: VisionTransformer(
            img_size=round(tokens**0.5) * patch,
            patch_size=patch,
            embed_dim=width,
            depth=depth,
            num_heads=width // HEAD_WIDTH,
            num_classes=0,
            global_pool="token",
        )
    )
    return load_strictly(module, state, path)


def dino_image(
    store: WeightStore,
    model: str,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    batch_size: int | None = None,
) -> ImageNetwork:
    """The extractor `<model>.image`: `output` (width,), the class token after the final norm.

    Args:
        store: Where the weights lie.
        model: "dino_vits16" or "dino_vits8".
        device: Where the network runs.
        dtype: Arithmetic of the network.
        batch_size: Images per pass; None picks by device.

    Raises:
        MissingWeightsError: If the weights are absent.
    """
    path = store.locate(model)
    return ImageNetwork(
        name=f"{model}.image",
        version=1,
        weights=store.digests(model),
        network=Network(lambda: load_dino(path), device=device, dtype=dtype, batch_size=batch_size),
        prepare=imagenet_pil,
        preprocessing="shorter side 256 bicubic (pil), centre 224",
    )
