"""A face detector and a recogniser with random weights, in the ONNX formats of insightface.

The detector finds a face around every patch of 32 pixels that is bright, so in every photograph
that is not nearly black; the recogniser gives numbers that depend on the crop.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

STRIDES = (8, 16, 32)
FACE_STRIDE = 32  # the one at which faces are found
BRIGHT = -0.2  # in [-1, 1], from which the middle of a patch is that of a face
HALF_SIDE = 3.5  # of the box, in strides
ANCHORS = 2
# Eyes, nose and corners of the mouth relative to the middle, in strides.
LANDMARKS = ((-1.4, -1.0), (1.4, -1.0), (0.0, 0.2), (-1.1, 1.5), (1.1, 1.5))
WIDTHS = {"score": 1, "box": 4, "points": 10}
OPSET = 17


def write_face_networks(detector: Path, recogniser: Path) -> None:
    """Writes both; the same bytes every time."""
    for path, model in ((detector, _detector()), (recogniser, _recogniser())):
        onnx.checker.check_model(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, path)


def write_arcface(path: Path) -> None:
    """Facexlib's IR-SE 50 with random weights; it has one size, 175 MB."""
    from facexlib.recognition.arcface_arch import Backbone

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(Backbone(num_layers=50, drop_ratio=0.6, mode="ir_se").state_dict(), path)


def _detector() -> onnx.ModelProto:
    """Nine outputs in SCRFD's order; each head is one convolution as wide as its stride."""
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, NDArray[np.floating] | NDArray[np.int64]] = {}
    outputs = []
    for kind, width in WIDTHS.items():
        constants[f"shape.{kind}"] = np.array([-1, width], np.int64)
        for stride in STRIDES:
            name = f"{kind}_{stride}"
            weight = np.zeros((ANCHORS * width, 3, stride, stride))
            bias = np.full(ANCHORS * width, HALF_SIDE)
            if kind == "points":
                bias = np.tile(np.ravel(LANDMARKS), ANCHORS)
            if kind == "score":
                bias = np.full(ANCHORS, -20.0)
                if stride == FACE_STRIDE:  # the first anchor alone
                    weight[0] = 40 / (3 * stride**2)  # 40 times the mean brightness
                    bias[0] = -40 * BRIGHT
            constants |= {f"{name}.weight": weight, f"{name}.bias": bias}
            nodes += [
                helper.make_node(
                    "Conv",
                    ["input.1", f"{name}.weight", f"{name}.bias"],
                    [f"{name}.map"],
                    kernel_shape=[stride, stride],
                    strides=[stride, stride],
                ),
                helper.make_node("Transpose", [f"{name}.map"], [f"{name}.last"], perm=[0, 2, 3, 1]),
                helper.make_node(
                    "Reshape",
                    [f"{name}.last", f"shape.{kind}"],
                    [f"{name}.rows" if kind == "score" else name],
                ),
            ]
            if kind == "score":
                nodes.append(helper.make_node("Sigmoid", [f"{name}.rows"], [name]))
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width]))
    image = helper.make_tensor_value_info("input.1", TensorProto.FLOAT, [1, 3, "h", "w"])
    return _model(nodes, image, outputs, constants)


def _recogniser() -> onnx.ModelProto:
    """A crop of 112 pixels to 512 numbers."""
    rng = np.random.default_rng(0)
    side = 112 // 16
    constants = {
        "conv.weight": rng.normal(0, 0.05, (8, 3, 16, 16)),
        "conv.bias": rng.normal(0, 0.1, 8),
        "fc.weight": rng.normal(0, 0.2, (512, 8 * side * side)),
        "fc.bias": rng.normal(0, 0.1, 512),
    }
    nodes = [
        helper.make_node(
            "Conv",
            ["input.1", "conv.weight", "conv.bias"],
            ["conv"],
            kernel_shape=[16, 16],
            strides=[16, 16],
        ),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("Flatten", ["relu"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "fc.weight", "fc.bias"], ["embedding"], transB=1),
    ]
    image = helper.make_tensor_value_info("input.1", TensorProto.FLOAT, ["n", 3, 112, 112])
    output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 512])
    return _model(nodes, image, [output], constants)


def _model(
    nodes: Sequence[onnx.NodeProto],
    image: onnx.ValueInfoProto,
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Mapping[str, NDArray[np.floating] | NDArray[np.int64]],
) -> onnx.ModelProto:
    tensors = [
        numpy_helper.from_array(
            value if value.dtype == np.int64 else np.ascontiguousarray(value, np.float32), name
        )
        for name, value in constants.items()
    ]
    graph = helper.make_graph(list(nodes), "tiny", [image], list(outputs), tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
