"""HSEmotion: EfficientNet-B0 trained on AffectNet, eight facial expressions.

Savchenko, Facial Expression and Attributes Recognition Based on Multi-task Learning of Lightweight
Neural Networks; HSE-asavchenko/face-emotion-recognition, `enet_b0_8_best_vgaf.pt`.

The published file is a whole pickled timm module. It is unpickled with an allow-list of layer
classes, and only its tensors are used, in a module of the installed timm: modules pickled by an
older timm lack attributes that its forward pass reads.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import timm
from numpy.typing import NDArray
from PIL import Image
from timm.layers.adaptive_avgmax_pool import FastAdaptiveAvgPool, SelectAdaptivePool2d
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from timm.models import _efficientnet_blocks as blocks
from timm.models import efficientnet
from torch import Tensor, nn

from idbench.metrics.extractors.checkpoint import (
    CheckpointError,
    load_strictly,
    read_pickle,
    unfilled,
)
from idbench.metrics.extractors.face_crop import CropRule
from idbench.metrics.extractors.face_network import FaceNetwork
from idbench.metrics.extractors.network import Network
from idbench.metrics.extractors.preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    normalised,
    stretched,
    to_unit,
)
from idbench.metrics.weights import WeightStore

CLASSES = (
    "anger",
    "contempt",
    "disgust",
    "fear",
    "happiness",
    "neutral",
    "sadness",
    "surprise",
)
SIDE = 224
ARCHITECTURE = "tf_efficientnet_b0"


def allowed_classes() -> Iterable[Any]:
    """Layer classes that may occur in the pickle, under the names of this and of older timm."""
    yield from (
        nn.Sequential,
        nn.ModuleList,
        nn.Conv2d,
        nn.BatchNorm2d,
        nn.SiLU,
        nn.Sigmoid,
        nn.Identity,
        nn.Linear,
        nn.Flatten,
        nn.AdaptiveAvgPool2d,
        nn.Dropout,
        efficientnet.EfficientNet,
        blocks.DepthwiseSeparableConv,
        blocks.InvertedResidual,
        blocks.SqueezeExcite,
        Conv2dSame,
        BatchNormAct2d,
        SelectAdaptivePool2d,
        set,
    )
    yield (blocks.DepthwiseSeparableConv, "timm.models.efficientnet_blocks.DepthwiseSeparableConv")
    yield (blocks.InvertedResidual, "timm.models.efficientnet_blocks.InvertedResidual")
    yield (blocks.SqueezeExcite, "timm.models.efficientnet_blocks.SqueezeExcite")
    yield (Conv2dSame, "timm.models.layers.conv2d_same.Conv2dSame")
    yield (BatchNormAct2d, "timm.models.layers.norm_act.BatchNormAct2d")
    yield (SelectAdaptivePool2d, "timm.models.layers.adaptive_avgmax_pool.SelectAdaptivePool2d")
    yield (FastAdaptiveAvgPool, _FAST_POOL)
    yield (FastAdaptiveAvgPool, _FAST_POOL_2D)


_FAST_POOL = "timm.layers.adaptive_avgmax_pool.FastAdaptiveAvgPool"
_FAST_POOL_2D = "timm.models.layers.adaptive_avgmax_pool.FastAdaptiveAvgPool2d"


def load_hsemotion(path: Path) -> nn.Module:
    """The network with the published weights: a pickled module, or a state dict.

    Raises:
        CheckpointError: If the file holds neither, or not the eight classes.
    """
    saved = read_pickle(path, allowed=allowed_classes())
    state = _tensors(saved) if isinstance(saved, nn.Module) else saved
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(saved).__name__}, not an EfficientNet")
    # Upstream wraps its classifier in a Sequential of one layer.
    state = {key.replace("classifier.0.", "classifier."): value for key, value in state.items()}
    module = unfilled(lambda: timm.create_model(ARCHITECTURE, num_classes=len(CLASSES)))
    return load_strictly(module, state, path)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """`state_dict` without calling a method of an object that an older timm pickled."""
    found: dict[str, Tensor] = {}

    def collect(part: nn.Module, prefix: str) -> None:
        for name, value in {**part._parameters, **part._buffers}.items():
            if value is not None:
                found[prefix + name] = value
        for name, child in part._modules.items():
            if child is not None:
                collect(child, f"{prefix}{name}.")

    collect(module, "")
    return found


def hsemotion_input(face: NDArray[np.uint8]) -> Tensor:
    """A face crop as the network takes it: 224 x 224 stretched, ImageNet statistics."""
    small = stretched(face, SIDE, Image.Resampling.BILINEAR)
    return normalised(to_unit(small), IMAGENET_MEAN, IMAGENET_STD)


def hsemotion(
    store: WeightStore,
    rule: CropRule,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    batch_size: int | None = None,
) -> FaceNetwork:
    """The extractor `hsemotion.<rule>`: `output` (n, 8), logits in the order of `CLASSES`.

    Raises:
        MissingWeightsError: If the weights are absent.
    """
    path = store.locate("hsemotion")
    return FaceNetwork(
        name="hsemotion",
        version=1,
        weights=store.digests("hsemotion"),
        network=Network(
            lambda: load_hsemotion(path), device=device, dtype=dtype, batch_size=batch_size
        ),
        prepare=hsemotion_input,
        rule=rule,
        shape=(len(CLASSES),),
    )
