"""glintr100 as a differentiable torch module, read from the ONNX file that insightface runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

Attributes = dict[str, Any]


def _conv(inputs: list[Tensor], attributes: Attributes) -> Tensor:
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    if (top, left) != (bottom, right):
        raise ValueError(f"Conv with uneven padding {attributes['pads']} is not supported")
    return functional.conv2d(
        inputs[0],
        inputs[1],
        inputs[2] if len(inputs) > 2 else None,
        stride=tuple(attributes.get("strides", (1, 1))),
        padding=(top, left),
        dilation=tuple(attributes.get("dilations", (1, 1))),
        groups=attributes.get("group", 1),
    )


def _batch_norm(inputs: list[Tensor], attributes: Attributes) -> Tensor:
    x, weight, bias, mean, variance = inputs
    return functional.batch_norm(
        x, mean, variance, weight, bias, training=False, eps=attributes.get("epsilon", 1e-5)
    )


def _gemm(inputs: list[Tensor], attributes: Attributes) -> Tensor:
    a, b = inputs[:2]
    a = a.T if attributes.get("transA") else a
    b = b.T if attributes.get("transB") else b
    out: Tensor = attributes.get("alpha", 1.0) * (a @ b)
    if len(inputs) > 2:
        out = out + attributes.get("beta", 1.0) * inputs[2]
    return out


def _prelu(inputs: list[Tensor], attributes: Attributes) -> Tensor:
    return torch.where(inputs[0] >= 0, inputs[0], inputs[1] * inputs[0])


OPERATIONS: dict[str, Callable[[list[Tensor], Attributes], Tensor]] = {
    "Add": lambda inputs, _: inputs[0] + inputs[1],
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "Dropout": lambda inputs, _: inputs[0],
    "Flatten": lambda inputs, attributes: inputs[0].flatten(attributes.get("axis", 1)),
    "Gemm": _gemm,
    "Identity": lambda inputs, _: inputs[0],
    "PRelu": _prelu,
    "Relu": lambda inputs, _: inputs[0].relu(),
}


class ArcFace(nn.Module):
    """An ArcFace network of insightface, frozen, with gradients to its input.

    The graph of the ONNX file is run node by node with torch's own operations, so no second set of
    weights is needed and the embedding is the one that evaluation code of insightface gives.

    Args:
        path: `glintr100.onnx` or another file of the same operations.
    """

    def __init__(self, path: Path) -> None:
        """Reads the graph.

        Raises:
            ValueError: If it has an operation that is not supported; the message names it.
        """
        super().__init__()
        graph = onnx.load(path).graph
        unknown = sorted({node.op_type for node in graph.node} - OPERATIONS.keys())
        if unknown:
            raise ValueError(f"{path}: operations {', '.join(unknown)} are not supported")
        self._names: dict[str, str] = {}
        for number, initializer in enumerate(graph.initializer):
            self._names[initializer.name] = f"constant{number}"
            array = numpy_helper.to_array(initializer).copy()
            self.register_buffer(f"constant{number}", torch.from_numpy(array))
        self._input = next(i.name for i in graph.input if i.name not in self._names)
        self._output = graph.output[0].name
        self._nodes = [
            (
                OPERATIONS[node.op_type],
                list(node.input),
                node.output[0],
                {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute},
            )
            for node in graph.node
        ]

    def forward(self, faces: Tensor) -> Tensor:
        """Raw embeddings [batch, 512] of aligned RGB faces in [-1, 1], [batch, 3, 112, 112]."""
        values = {name: self.get_buffer(buffer) for name, buffer in self._names.items()}
        values[self._input] = faces
        for operation, inputs, output, attributes in self._nodes:
            values[output] = operation([values[name] for name in inputs if name], attributes)
        return values[self._output]
