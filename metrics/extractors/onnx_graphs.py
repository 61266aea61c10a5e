"""The networks of insightface's antelopev2 as ONNX graphs with random weights.

For measurements of speed where the released files are not there: SCRFD-10G with points, IResNet
100 and a ResNet-50 for landmarks, in the layouts of the released files. Batch norms are folded into
the convolutions, as the exporter does.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Tensor = str
Shape = Sequence[int | str]


class Graph:
    """An ONNX graph under construction: each method adds a layer and returns its output's name."""

    def __init__(self, seed: int) -> None:
        """An empty graph; weights are drawn from `seed`."""
        self._random = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._count = 0

    def op(self, kind: str, inputs: Sequence[Tensor], **attributes: Any) -> Tensor:
        """Any node with one output."""
        self._count += 1
        name = f"{kind}_{self._count}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def weight(self, array: NDArray[np.generic]) -> Tensor:
        """A constant."""
        self._count += 1
        name = f"w_{self._count}"
        self._weights.append(numpy_helper.from_array(array, name))
        return name

    def conv(
        self,
        x: Tensor,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        *,
        bias: float = 0.0,
        gain: float = 1.0,
    ) -> Tensor:
        """A convolution that keeps the size, or halves it at stride 2."""
        spread = gain * (2 / (inputs * kernel * kernel)) ** 0.5
        shape = (outputs, inputs, kernel, kernel)
        weights = self._random.normal(0, spread, shape).astype(np.float32)
        return self.op(
            "Conv",
            [x, self.weight(weights), self.weight(np.full(outputs, bias, np.float32))],
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
        )

    def conv_relu(self, x: Tensor, inputs: int, outputs: int, stride: int = 1) -> Tensor:
        """A 3 x 3 convolution and a ReLU."""
        return self.op("Relu", [self.conv(x, inputs, outputs, 3, stride)])

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        """A sum, scaled so that the variance of random summands does not grow with depth."""
        scale = self.weight(np.array(0.7, np.float32))
        return self.op("Mul", [self.op("Add", [a, b]), scale])

    def dense(self, x: Tensor, inputs: int, outputs: int) -> Tensor:
        """A fully connected layer."""
        weights = self._random.normal(0, inputs**-0.5, (inputs, outputs)).astype(np.float32)
        return self.op("MatMul", [x, self.weight(weights)])

    def save(
        self, path: Path, inputs: tuple[str, Shape], outputs: Sequence[tuple[str, Shape]]
    ) -> None:
        """Writes the file; `outputs` are names of tensors and their shapes."""

        def value(name: str, shape: Shape) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, list(shape))

        graph = helper.make_graph(
            self._nodes,
            "network",
            [value(*inputs)],
            [value(*output) for output in outputs],
            self._weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.save(model, path)


def save_iresnet100(path: Path, *, depths: Sequence[int] = (3, 13, 30, 3), width: int = 64) -> None:
    """ArcFace's IResNet: four stages of pre-activated blocks, 512-dimensional embedding.

    Args:
        path: Where to write.
        depths: Blocks per stage; (3, 13, 30, 3) is R100.
        width: Channels of the first stage.
    """
    g = Graph(seed=1)

    def prelu(x: Tensor, channels: int) -> Tensor:
        return g.op("PRelu", [x, g.weight(np.full((channels, 1, 1), 0.25, np.float32))])

    x = prelu(g.conv("data", 3, width, 3), width)
    inputs = width
    for stage, depth in enumerate(depths):
        outputs = width * 2**stage
        for block in range(depth):
            stride = 2 if block == 0 else 1
            inner = prelu(g.conv(x, inputs, outputs, 3), outputs)
            inner = g.conv(inner, outputs, outputs, 3, stride)
            shortcut = g.conv(x, inputs, outputs, 1, stride) if block == 0 else x
            x = g.add(inner, shortcut)
            inputs = outputs
    flat = g.op("Flatten", [x])
    embedding = g.dense(flat, inputs * 7 * 7, 512)
    g.save(path, ("data", ("n", 3, 112, 112)), [(embedding, ("n", 512))])


def save_landmarks(path: Path, *, depths: Sequence[int] = (3, 4, 6, 3), width: int = 64) -> None:
    """A ResNet-50 with the 3309 outputs of `1k3d68.onnx`; it takes values of 0 to 255.

    Args:
        path: Where to write.
        depths: Bottlenecks per stage.
        width: Channels inside the first stage.
    """
    g = Graph(seed=3)
    scaled = g.op("Mul", ["data", g.weight(np.array(1 / 128, np.float32))])
    x = g.op("Relu", [g.conv(scaled, 3, width, 7, stride=2)])
    x = g.op("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    inputs = width
    for stage, depth in enumerate(depths):
        inside = width * 2**stage
        for block in range(depth):
            stride = 2 if block == 0 and stage else 1
            y = g.op("Relu", [g.conv(x, inputs, inside, 1)])
            y = g.conv(g.conv_relu(y, inside, inside, stride), inside, 4 * inside, 1)
            shortcut = g.conv(x, inputs, 4 * inside, 1, stride) if block == 0 else x
            x = g.op("Relu", [g.add(y, shortcut)])
            inputs = 4 * inside
    pooled = g.op("Flatten", [g.op("GlobalAveragePool", [x])])
    output = g.dense(pooled, inputs, 3309)
    g.save(path, ("data", ("n", 3, 192, 192)), [(output, ("n", 3309))])


def save_scrfd(path: Path, *, score_bias: float = 0.0, base: int = 56) -> None:
    """SCRFD-10G: a ResNet of four stages, a path-aggregating pyramid, and one head per stride.

    Args:
        path: Where to write.
        score_bias: Bias of the score convolutions, by which the number of faces is chosen.
        base: Channels of the first stage and of the pyramid; 56 as published.
    """
    g = Graph(seed=2)
    widths = (base, base * 11 // 7, base * 11 // 7, base * 4)
    x = g.conv_relu("input.1", 3, base // 2, stride=2)
    x = g.conv_relu(g.conv_relu(x, base // 2, base // 2), base // 2, base)
    x = g.op("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    levels, inputs = [], base
    for stage, (depth, outputs) in enumerate(zip((3, 4, 2, 3), widths, strict=True)):
        for block in range(depth):
            stride = 2 if block == 0 and stage else 1
            inner = g.conv(g.conv_relu(x, inputs, outputs, stride), outputs, outputs, 3)
            changed = stride == 2 or inputs != outputs
            shortcut = g.conv(x, inputs, outputs, 1, stride) if changed else x
            x = g.op("Relu", [g.add(inner, shortcut)])
            inputs = outputs
        levels.append((x, outputs))
    lateral = [g.conv(tensor, width, base, 1) for tensor, width in levels[1:]]
    scales = g.weight(np.array([1, 1, 2, 2], np.float32))
    for i in (1, 0):
        up = g.op("Resize", [lateral[i + 1], "", scales], mode="nearest")
        lateral[i] = g.add(lateral[i], up)
    paths = [g.conv(tensor, base, base, 3) for tensor in lateral]
    for i in (1, 2):
        paths[i] = g.add(paths[i], g.conv(paths[i - 1], base, base, 3, stride=2))
    outputs_of: dict[str, list[tuple[str, Shape]]] = {"score": [], "box": [], "points": []}
    for stride, tensor in zip((8, 16, 32), paths, strict=True):
        y = tensor
        for layer in range(3):
            y = g.conv_relu(y, base if layer == 0 else 80, 80)
        cells = 2 * (640 // stride) ** 2
        for kind, channels in (("score", 1), ("box", 4), ("points", 10)):
            bias = {"score": score_bias, "box": 2.0, "points": 0.0}[kind]
            # A small gain keeps the sigmoid of the scores from saturating.
            out = g.conv(y, 80, 2 * channels, 3, bias=bias, gain=0.01)
            out = g.op("Transpose", [out], perm=[0, 2, 3, 1])
            out = g.op("Reshape", [out, g.weight(np.array([-1, channels], np.int64))])
            if kind == "score":
                out = g.op("Sigmoid", [out])
            outputs_of[kind].append((out, (cells, channels)))
    flat = [output for kind in outputs_of.values() for output in kind]
    g.save(path, ("input.1", (1, 3, 640, 640)), flat)
