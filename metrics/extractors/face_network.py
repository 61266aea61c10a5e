"""Runs a network over the face crops of images, in batches across images."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from idbench.metrics.extractors.face_crop import CropRule
from idbench.metrics.extractors.network import Network
from idbench.metrics.protocol import Features, Item, Missing

Pixels = NDArray[np.uint8]


class FaceNetwork:
    """An extractor with one output vector per face crop.

    Features of an image with n crops: `output` (n, ...), what the network yields for each.

    Args:
        name: Name of the network; the crop rule's tag is added.
        version: Raised with every change of the network's preprocessing or arithmetic.
        weights: sha256 of each file.
        network: The network.
        prepare: A crop to the network's input. It may raise `ValueError` for crops that the
            network cannot take; the image is then missing with reason `crop_too_small`.
        rule: Which crops.
        shape: Shape of one output, for images without a face.
        forward: What to run on a batch of inputs; the module itself by default.
    """

    reads: Literal["image"] = "image"

    def __init__(
        self,
        *,
        name: str,
        version: int,
        weights: Mapping[str, str],
        network: Network,
        prepare: Callable[[Pixels], Tensor],
        rule: CropRule,
        shape: tuple[int, ...],
        forward: Callable[[nn.Module, Tensor], Tensor] | None = None,
    ) -> None:
        """Keeps the arguments; nothing is loaded."""
        self.name = f"{name}.{rule.tag}"
        self.needs = rule.needs
        self._version = version
        self._weights = dict(weights)
        self._network = network
        self._prepare = prepare
        self._rule = rule
        self._shape = shape
        self._forward = forward

    def fingerprint(self) -> Mapping[str, object]:
        """Version, weights, crop rule and arithmetic."""
        return {
            "name": self.name,
            "version": self._version,
            "weights": self._weights,
            "crop": dict(self._rule.fingerprint()),
            "dtype": self._network.dtype_name,
        }

    def release(self) -> None:
        """Frees the network."""
        self._network.release()

    def __call__(self, items: Sequence[Item]) -> list[Features | Missing]:
        """The outputs for each image."""
        inputs: list[Tensor] = []
        counts: list[int | Missing] = []
        for item in items:
            try:
                own = [self._prepare(crop) for crop in self._rule.crops(item)]
            except ValueError as error:
                counts.append(Missing("crop_too_small", str(error)))
                continue
            counts.append(len(own))
            inputs.extend(own)
        outputs = iter(self._network(inputs, self._forward))
        results: list[Features | Missing] = []
        for count in counts:
            if isinstance(count, Missing):
                results.append(count)
                continue
            own = [next(outputs) for _ in range(count)]
            stacked = torch.stack(own).numpy() if own else np.empty((0, *self._shape), np.float32)
            results.append({"output": stacked})
        return results
