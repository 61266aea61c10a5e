"""Runs a network over whole images, in batches of inputs of one shape."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from idbench.metrics.extractors.items import image_of
from idbench.metrics.extractors.network import Network
from idbench.metrics.protocol import Features, Item, Missing


class ImageNetwork:
    """An extractor with one output array per image.

    Features: `output`, what the network yields for the image.

    Args:
        name: Name of the extractor.
        version: Raised with every change of preprocessing or arithmetic.
        weights: sha256 of each file.
        network: The network.
        prepare: An RGB image, uint8 `height width 3`, to the network's input.
        preprocessing: The name of `prepare`, for the fingerprint.
        forward: What to run on a batch of inputs; the module itself by default.
    """

    needs: tuple[str, ...] = ()
    reads: Literal["image"] = "image"

    def __init__(
        self,
        *,
        name: str,
        version: int,
        weights: Mapping[str, str],
        network: Network,
        prepare: Callable[[NDArray[np.uint8]], Tensor],
        preprocessing: str,
        forward: Callable[[nn.Module, Tensor], Tensor] | None = None,
    ) -> None:
        """Keeps the arguments; nothing is loaded."""
        self.name = name
        self._version = version
        self._weights = dict(weights)
        self._network = network
        self._prepare = prepare
        self._preprocessing = preprocessing
        self._forward = forward

    def fingerprint(self) -> Mapping[str, object]:
        """Version, weights, preprocessing and arithmetic."""
        return {
            "name": self.name,
            "version": self._version,
            "weights": self._weights,
            "preprocessing": self._preprocessing,
            "dtype": self._network.dtype_name,
        }

    def release(self) -> None:
        """Frees the network."""
        self._network.release()

    def __call__(self, items: Sequence[Item]) -> list[Features | Missing]:
        """The output for each image."""
        inputs = [self._prepare(image_of(item)) for item in items]
        by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for place, prepared in enumerate(inputs):
            by_shape[tuple(prepared.shape)].append(place)
        outputs: list[Features | Missing] = [{}] * len(inputs)
        for places in by_shape.values():
            found = self._network([inputs[place] for place in places], self._forward)
            for place, output in zip(places, found, strict=True):
                outputs[place] = {"output": output.numpy()}
        return outputs
