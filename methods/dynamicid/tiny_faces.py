"""Face networks with random weights in the ONNX formats of buffalo_l.

The detector finds one face in the middle of any picture that is not nearly black; the others give
numbers that depend on the picture.
"""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

CANVAS = 512  # side of the detector's input
STRIDES = (8, 16, 32)
ANCHORS = 2
HALF_SIDE = 3.5  # of the face box, in strides of 32 pixels
KEYPOINTS = ((-1.4, -1.0), (1.4, -1.0), (0.0, 0.2), (-1.1, 1.5), (1.1, 1.5))
OPSET = 17


def write_tiny_face_models(folder: Path, seed: int = 0) -> None:
    """Writes det_10g, w600k_r50, 2d106det and 1k3d68 to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    angles = np.linspace(0.0, 2.0 * np.pi, 106, endpoint=False)
    oval = np.stack([0.5 * np.cos(angles), 0.6 * np.sin(angles)], axis=1)
    nets = {
        "det_10g": _detector(),
        "w600k_r50": _regressor(112, np.zeros(512), rng, scale=1.0),
        "2d106det": _regressor(192, oval.ravel(), rng, scale=0.1),
        "1k3d68": _regressor(192, _points_68(), rng, scale=0.02),
    }
    for name, net in nets.items():
        onnx.checker.check_model(net)
        onnx.save(net, folder / f"{name}.onnx")


def _model(
    nodes: list[onnx.NodeProto],
    size: int | str,
    outputs: dict[str, tuple[int, ...]],
    constants: dict[str, NDArray[np.floating]],
) -> onnx.ModelProto:
    sides: list[int | str] = [size, size] if isinstance(size, int) else ["height", "width"]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, [1, 3, *sides])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, list(dims))
            for name, dims in outputs.items()
        ],
        [
            numpy_helper.from_array(np.asarray(value, np.float32), name)
            for name, value in constants.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def _regressor(
    size: int, bias: NDArray[np.floating], rng: np.random.Generator, *, scale: float
) -> onnx.ModelProto:
    """Means of a 4 x 4 grid of patches, then one linear layer."""
    weight = rng.normal(size=(48, len(bias))) * scale
    patch = size // 4
    nodes = [
        helper.make_node(
            "AveragePool", ["input.1"], ["pooled"], kernel_shape=[patch] * 2, strides=[patch] * 2
        ),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["output"]),
    ]
    constants = {"weight": weight, "bias": bias}
    return _model(nodes, size, {"output": (1, len(bias))}, constants)


def _points_68() -> NDArray[np.floating]:
    """1,103 points of which the last 68 are a face looking straight ahead."""
    from insightface.data import get_object

    mean = np.asarray(get_object("meanshape_68.pkl"), dtype=np.float64)
    centred = (mean - mean.mean(axis=0)) / np.abs(mean - mean.mean(axis=0)).max() * 0.6
    points = np.zeros((1103, 3))
    points[-68:] = centred
    return points.ravel()


def _detector() -> onnx.ModelProto:
    """Scores, boxes and key points of all anchors; one anchor of the coarsest level is a face."""
    nodes = [
        helper.make_node("ReduceMean", ["input.1"], ["mean"], axes=[0, 1, 2, 3], keepdims=0),
        helper.make_node("Add", ["mean", "above_black"], ["lifted"]),
        helper.make_node("Clip", ["lifted", "least", "most"], ["score"]),
    ]
    # A black picture has the mean -127.5 / 128.
    constants: dict[str, NDArray[np.floating]] = {
        "above_black": np.array(1.3),
        "least": np.array(0.0),
        "most": np.array(0.95),
    }
    face = {"score": [1.0], "box": [HALF_SIDE] * 4, "points": list(np.ravel(KEYPOINTS))}
    outputs: dict[str, tuple[int, ...]] = {}
    for kind, width in (("score", 1), ("box", 4), ("points", 10)):
        for stride in STRIDES:
            cells = CANVAS // stride
            values = np.zeros((cells * cells * ANCHORS, width), dtype=np.float32)
            if stride == STRIDES[-1]:
                middle = (cells // 2 * cells + cells // 2) * ANCHORS
                values[middle] = face[kind]
            name = f"{kind}_{stride}"
            constants[f"{name}_of_a_face"] = values
            outputs[name] = values.shape
            operator = ("Mul", "score") if kind == "score" else ("Add", "nothing")
            nodes.append(helper.make_node(operator[0], [f"{name}_of_a_face", operator[1]], [name]))
    constants["nothing"] = np.array(0.0)
    return _model(nodes, "any", outputs, constants)
