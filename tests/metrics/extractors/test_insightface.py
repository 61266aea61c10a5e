"""SCRFD, ArcFace and 68-point pose on random networks in the layout of the packs.

The oracle is the insightface package, which reads the same files.
"""

import numpy as np
import pytest

from idbench.metrics.extractors.insightface import FILES, InsightFace
from idbench.metrics.extractors.insightface_pose import (
    SIDE,
    InsightFacePose,
    face_matrix,
    landmarks,
    rotation,
)
from idbench.metrics.extractors.onnx_network import DeviceError, OnnxNetwork
from idbench.metrics.extractors.scrfd import SCRFD, anchor_centres, greedy_nms, letterbox
from idbench.metrics.pose import euler_degrees, rotation_from_euler
from idbench.metrics.protocol import Item
from idbench.metrics.weights import MissingWeightsError, WeightStore

onnx = pytest.importorskip("onnx")

pytestmark = [
    # scikit-image and numpy deprecations inside insightface, which is only the oracle here.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def save_graph(path, nodes, weights, inputs, outputs):
    from onnx import helper, numpy_helper

    def value(name, shape):
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes,
        "network",
        [value(*entry) for entry in inputs],
        [value(*entry) for entry in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def save_detector(path, batch_axis=False):
    """Nine outputs for strides 8, 16, 32: scores, distances, points; two anchors per cell."""
    from onnx import helper

    random = np.random.default_rng(0)
    nodes, weights, outputs = [], {}, {"score": [], "box": [], "point": []}
    for stride in (8, 16, 32):
        pooled = f"pool{stride}"
        nodes.append(
            helper.make_node(
                "AveragePool",
                ["data"],
                [pooled],
                kernel_shape=[stride, stride],
                strides=[stride, stride],
            )
        )
        for kind, channels in (("score", 1), ("box", 4), ("point", 10)):
            name = f"{kind}{stride}"
            # Few cells pass, so that the slow reference suppression stays quick.
            bias = -1.0 if kind == "score" else 1.5
            spread = 2.0 if kind == "score" else 1.0
            weights[f"{name}.w"] = spread * random.normal(size=(2 * channels, 3, 1, 1)).astype("f4")
            weights[f"{name}.b"] = np.full(2 * channels, bias, "f4")
            shape = [1, -1, channels] if batch_axis else [-1, channels]
            weights[f"{name}.s"] = np.array(shape, np.int64)
            steps = [
                ("Conv", [pooled, f"{name}.w", f"{name}.b"], {}),
                ("Transpose", None, {"perm": [0, 2, 3, 1]}),
                ("Reshape", f"{name}.s", {}),
                ({"score": "Sigmoid", "box": "Relu", "point": "Identity"}[kind], None, {}),
            ]
            last = None
            for number, (op, extra, attributes) in enumerate(steps):
                sources = extra if isinstance(extra, list) else [last, *([extra] if extra else [])]
                last = name if number == 3 else f"{name}.{number}"
                nodes.append(helper.make_node(op, sources, [last], **attributes))
            cells = 2 * (640 // stride) ** 2
            outputs[kind].append((name, [1, cells, channels] if batch_axis else [cells, channels]))
    flat = [entry for kind in outputs.values() for entry in kind]
    save_graph(path, nodes, weights, [("data", [1, 3, "h", "w"])], flat)


def save_recogniser(path, batch="n", side=112, width=512):
    from onnx import helper

    random = np.random.default_rng(1)
    cells = 3 * (side // 8) ** 2
    weights = {
        "w": (random.normal(size=(cells, width)) / cells**0.5).astype("f4"),
        "b": random.normal(size=width).astype("f4"),
    }
    nodes = [
        helper.make_node("AveragePool", ["data"], ["p"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["embedding"]),
    ]
    save_graph(
        path, nodes, weights, [("data", [batch, 3, side, side])], [("embedding", [batch, width])]
    )


def save_landmarks(path):
    """68 points near the mean face and many before them, as in 1k3d68."""
    from onnx import helper

    from idbench.metrics.extractors.packaged import mean_shape_68

    random = np.random.default_rng(2)
    shape = mean_shape_68()
    shape = (shape - shape.mean(0)) / np.abs(shape).max()
    bias = np.zeros((1103, 3))
    bias[-68:] = shape @ rotation_from_euler(np.array([20.0, -10.0, 5.0])).T
    weights = {
        "mean": np.full((1, 1, 1, 1), 127.5, "f4"),
        "scale": np.full((1, 1, 1, 1), 1 / 128, "f4"),
        "w": (0.01 * random.normal(size=(3 * 12 * 12, 3309))).astype("f4"),
        "b": bias.ravel().astype("f4"),
    }
    nodes = [
        # The names tell insightface that the graph normalises its input itself.
        helper.make_node("Sub", ["data", "mean"], ["d"], name="Sub0"),
        helper.make_node("Mul", ["d", "scale"], ["n"], name="Mul0"),
        helper.make_node("AveragePool", ["n"], ["p"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["fc1"]),
    ]
    save_graph(path, nodes, weights, [("data", ["n", 3, SIDE, SIDE])], [("fc1", ["n", 3309])])


@pytest.fixture(scope="module", params=["antelopev2", "buffalo_l"])
def pack(request, tmp_path_factory, checkpoints):
    folder = tmp_path_factory.mktemp(request.param)
    detector, recogniser, points = FILES[request.param]
    # Both layouts that exist: with and without an axis for the batch, and a fixed batch of one.
    save_detector(folder / detector, batch_axis=request.param == "buffalo_l")
    save_recogniser(folder / recogniser, batch=1 if request.param == "buffalo_l" else "n")
    save_landmarks(folder / points)
    for name in ("2d106det.onnx", "genderage.onnx"):
        (folder / name).write_bytes(b"not needed")
    root = tmp_path_factory.mktemp("root")
    store = WeightStore(root, catalogue=checkpoints.without_digests())
    store.import_file(request.param, folder)
    return request.param, store


@pytest.fixture(scope="module")
def oracle(pack):
    package = pytest.importorskip("insightface.model_zoo.scrfd")
    arcface = pytest.importorskip("insightface.model_zoo.arcface_onnx")
    name, store = pack
    detector, recogniser, _ = FILES[name]
    scrfd = package.SCRFD(model_file=str(store.locate(name, detector)))
    scrfd.prepare(-1, input_size=(640, 640))
    return scrfd, arcface.ArcFaceONNX(model_file=str(store.locate(name, recogniser)))


@pytest.fixture(scope="module")
def found(pack, pictures):
    name, store = pack
    return InsightFace(store, pack=name)([Item(image=picture) for picture in pictures])


def test_faces_equal_those_of_the_package(found, oracle, pictures):
    scrfd, _ = oracle
    for picture, features in zip(pictures, found, strict=True):
        detections, points = scrfd.detect(np.ascontiguousarray(picture[:, :, ::-1]))
        assert len(features["boxes"]) == len(detections)
        np.testing.assert_allclose(features["boxes"], detections[:, :4], atol=1e-3)
        np.testing.assert_allclose(features["scores"], detections[:, 4], atol=1e-5)
        np.testing.assert_allclose(features["points"], points, atol=1e-3)
    assert sum(len(features["boxes"]) for features in found) > 10


def test_embeddings_equal_those_of_the_package(found, oracle, pictures):
    align = pytest.importorskip("insightface.utils.face_align")
    _, arcface = oracle
    bgr = np.ascontiguousarray(pictures[0][:, :, ::-1])
    for points, embedding in list(zip(found[0]["points"], found[0]["embeddings"], strict=True))[:6]:
        expected = arcface.get_feat(align.norm_crop(bgr, points))[0]
        np.testing.assert_allclose(embedding, expected, atol=1e-3)


def test_faces_do_not_depend_on_the_other_images_or_the_batch(pack, found, pictures, same_outputs):
    name, store = pack
    same_outputs(found[:1], InsightFace(store, pack=name)([Item(image=pictures[0])]))
    items = [Item(image=picture) for picture in pictures]
    many = InsightFace(store, pack=name, batch_size=16)(items)
    same_outputs(found, many, tolerance=1e-5)


def test_an_image_without_a_face_has_no_rows(pack):
    name, store = pack
    grey = Item(image=np.zeros((200, 300, 3), np.uint8))
    (features,) = InsightFace(store, pack=name, threshold=0.9999)([grey])
    assert features["boxes"].shape == (0, 4)
    assert features["points"].shape == (0, 5, 2)
    assert features["embeddings"].shape == (0, 512)
    assert features["image_size"].tolist() == [200, 300]


def test_fingerprints_hold_the_networks_that_were_used(pack):
    name, store = pack
    extractor = InsightFace(store, pack=name, threshold=0.6)
    fingerprint = extractor.fingerprint()
    assert set(fingerprint["weights"]) == set(FILES[name][:2])
    assert fingerprint["threshold"] == 0.6
    assert extractor.name == name


def test_absent_weights_are_named(tmp_path):
    with pytest.raises(MissingWeightsError, match="idbench weights fetch antelopev2"):
        InsightFace(WeightStore(tmp_path))


def test_poses_equal_those_of_the_package(pack, found, pictures):
    landmark = pytest.importorskip("insightface.model_zoo.landmark")
    common = pytest.importorskip("insightface.app.common")
    name, store = pack
    extractor = InsightFacePose(store, pack=name)
    assert extractor.needs == (name,)
    item = Item(image=pictures[0], features={name: found[0]})
    (features,) = extractor([item])
    network = landmark.Landmark(model_file=str(store.locate(name, "1k3d68.onnx")))
    bgr = np.ascontiguousarray(pictures[0][:, :, ::-1])
    for index in range(min(4, len(found[0]["boxes"]))):
        face = common.Face(bbox=found[0]["boxes"][index])
        network.get(bgr, face)
        pitch, yaw, roll = face["pose"]
        np.testing.assert_allclose(features["pose"][index], [yaw, pitch, roll], atol=0.05)
        np.testing.assert_allclose(features["landmarks"][index], face["landmark_3d_68"], atol=0.05)


def test_pitch_of_the_mean_face_turned_up_is_positive():
    from idbench.metrics.extractors.packaged import mean_shape_68

    shape = mean_shape_68()
    angle = np.radians(15)
    about_x = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    yaw, pitch, roll = euler_degrees(rotation(7 * shape @ about_x.T + 30, shape))
    assert pitch == pytest.approx(15, abs=1e-3)
    assert yaw == pytest.approx(0, abs=1e-3)
    assert roll == pytest.approx(0, abs=1e-3)


def test_the_pose_crop_maps_there_and_back():
    box = np.array([100.0, 50.0, 180.0, 190.0])
    matrix = face_matrix(box)
    centre = matrix @ np.array([140.0, 120.0, 1.0])
    np.testing.assert_allclose(centre, [SIDE / 2, SIDE / 2])
    # A network output of zero is the middle of the crop, and so of the box.
    points = landmarks(np.zeros((70, 3)), matrix)
    np.testing.assert_allclose(points[0], [140, 120, 0], atol=1e-9)


def test_letterbox_keeps_the_aspect_and_the_corner():
    image = np.full((100, 200, 3), 255, np.uint8)
    square, scale = letterbox(image, 64)
    assert scale == pytest.approx(0.32)
    assert (square[:32] == 255).all()
    assert (square[32:] == 0).all()


def test_anchors_of_one_cell_lie_together():
    centres = anchor_centres(64, 32)
    assert centres.tolist() == [
        [0, 0],
        [0, 0],
        [32, 0],
        [32, 0],
        [0, 32],
        [0, 32],
        [32, 32],
        [32, 32],
    ]


def test_suppression_by_hand():
    boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 5], [20, 20, 29, 29], [0, 0, 9, 3]], np.float32)
    scores = np.array([0.9, 0.8, 0.95, 0.7], np.float32)
    # With one pixel added, the second overlaps the first by 60/100, the last by 40/100.
    assert greedy_nms(boxes, scores, 0.4) == [2, 0, 3]
    assert greedy_nms(boxes, scores, 0.39) == [2, 0]


def test_a_network_that_is_no_detector_is_refused(tmp_path):
    save_recogniser(tmp_path / "net.onnx", side=640)
    with pytest.raises(ValueError, match="1 outputs"):
        SCRFD(OnnxNetwork(tmp_path / "net.onnx"))(np.zeros((64, 64, 3), np.uint8))


def test_a_device_that_is_not_there_is_an_error_and_not_the_cpu(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime has CUDA here")
    save_recogniser(tmp_path / "net.onnx")
    network = OnnxNetwork(tmp_path / "net.onnx", device="cuda:0")
    with pytest.raises(DeviceError, match="cuda:0"):
        network([np.zeros((3, 112, 112), np.float32)])
    with pytest.raises(ValueError, match="cpu or cuda"):
        OnnxNetwork(tmp_path / "net.onnx", device="mps")
