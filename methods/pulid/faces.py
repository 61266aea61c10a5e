"""Face detection, recognition, alignment and parsing, as PuLID uses them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from idbench.methods.common.state_dicts import load_strictly

Array = npt.NDArray[np.float32]
ImageArray = npt.NDArray[np.uint8]

DETECTOR_SIZE = (640, 640)  # insightface input, official det_size
RETINAFACE_THRESHOLD = 0.97  # facexlib FaceRestoreHelper.get_face_landmarks_5
FACE_SIZE = 512
BORDER_BGR = (135, 133, 132)
# FFHQ landmarks in a 512 px crop (facexlib): eyes, nose, mouth corners
FFHQ_TEMPLATE = np.array(
    [
        (192.98138, 239.94708),
        (318.90277, 240.1936),
        (256.63416, 314.01935),
        (201.26117, 371.41043),
        (313.08905, 371.15118),
    ]
)
# normalisation of the face parser's input: ImageNet
PARSER_MEAN = (0.485, 0.456, 0.406)
PARSER_STD = (0.229, 0.224, 0.225)


class NoFaceError(ValueError):
    """No face was found. `stage` is "align" (the crop) or "match" (the same face in both)."""

    def __init__(self, stage: str, message: str) -> None:
        """Keeps the stage beside the message."""
        super().__init__(message)
        self.stage = stage


@dataclass(frozen=True, slots=True)
class DetectedFace:
    """Box (x0, y0, x1, y1) and five landmarks [5, 2], both in pixels."""

    box: Array
    landmarks: Array


class FaceRecogniser(Protocol):
    """Detects faces and embeds them. Images are BGR, uint8, [height, width, 3]."""

    def detect(self, image: ImageArray) -> list[DetectedFace]:
        """Faces in the detector's order."""
        ...

    def embed(self, image: ImageArray, face: DetectedFace) -> Array:
        """Raw embedding [512] of a face that `detect` found."""
        ...

    def embed_crop(self, crop: ImageArray) -> Array:
        """Raw embedding [512] of a whole image taken as a face crop."""
        ...


class FaceDetector(Protocol):
    """Detects faces for alignment."""

    def detect(self, image: ImageArray) -> list[DetectedFace]:
        """Faces of a BGR image, by falling score."""
        ...


class FaceParser(Protocol):
    """Labels the parts of an aligned face."""

    def labels(self, face: Tensor) -> Tensor:
        """Class of each pixel, [batch, 1, h, w], of RGB faces in [0, 1], [batch, 3, h, w]."""
        ...


class AntelopeV2:
    """SCRFD detector and glintr100 recogniser of insightface's antelopev2, on onnxruntime.

    Args:
        detector: `scrfd_10g_bnkps.onnx`.
        recogniser: `glintr100.onnx`.
        device: "cpu" or a CUDA device, which needs onnxruntime-gpu.
    """

    def __init__(self, detector: Path, recogniser: Path, device: str = "cpu") -> None:
        """Opens both sessions."""
        from insightface.model_zoo import get_model

        files = (detector, recogniser)
        kind, _, number = device.partition(":")
        providers: list[object] = ["CPUExecutionProvider"]
        if kind == "cuda":
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": int(number or 0)}))
        self._detector, self._recogniser = (get_model(str(f), providers=providers) for f in files)
        context = 0 if kind == "cuda" else -1
        self._detector.prepare(context, input_size=DETECTOR_SIZE, det_thresh=0.5)
        self._recogniser.prepare(context)

    def detect(self, image: ImageArray) -> list[DetectedFace]:
        """Faces by falling score."""
        boxes, landmarks = self._detector.detect(image)
        return [DetectedFace(b[:4], k) for b, k in zip(boxes, landmarks, strict=True)]

    def embed(self, image: ImageArray, face: DetectedFace) -> Array:
        """Embedding of the face aligned to insightface's 112 px template."""
        from insightface.app.common import Face

        return cast(Array, self._recogniser.get(image, Face(kps=face.landmarks)))

    def embed_crop(self, crop: ImageArray) -> Array:
        """Embedding of a crop squeezed to 112 px; its template is not insightface's."""
        return cast(Array, self._recogniser.get_feat(crop).flatten())


class RetinaFaceResNet50:
    """facexlib's RetinaFace detector.

    Args:
        path: `detection_Resnet50_Final.pth`.
        device: torch device.
    """

    def __init__(self, path: Path, device: str | torch.device = "cpu") -> None:
        """Loads the network strictly.

        Raises:
            ValueError: If the file is not of this network.
        """
        from facexlib.detection.retinaface import RetinaFace

        self._model = RetinaFace(network_name="resnet50", device=torch.device(device))
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
        load_strictly(self._model, state, path)
        self._model.eval().requires_grad_(False)

    def detect(self, image: ImageArray) -> list[DetectedFace]:
        """Faces above the official threshold, at the image's own size."""
        with torch.no_grad():
            found = self._model.detect_faces(image, RETINAFACE_THRESHOLD)
        return [DetectedFace(row[:4], row[5:15].reshape(5, 2)) for row in found]


class BiSeNetParser:
    """facexlib's face parser with 19 classes.

    Args:
        path: `parsing_bisenet.pth`.
        device: torch device.
    """

    def __init__(self, path: Path, device: str | torch.device = "cpu") -> None:
        """Loads the network strictly.

        Raises:
            ValueError: If the file is not of this network.
        """
        from facexlib.parsing.bisenet import BiSeNet

        self._device = torch.device(device)
        self._model = BiSeNet(num_class=19)
        state = torch.load(path, map_location="cpu", weights_only=True)
        load_strictly(self._model, state, path)
        self._model.to(self._device).eval().requires_grad_(False)

    def labels(self, face: Tensor) -> Tensor:
        """Class of each pixel, [batch, 1, h, w]."""
        with torch.no_grad():
            logits: Tensor = self._model(parser_input(face.to(self._device)))[0]
        return logits.argmax(dim=1, keepdim=True)


def parser_input(face: Tensor) -> Tensor:
    """RGB faces in [0, 1], [batch, 3, h, w], normalised for the parser."""
    mean = face.new_tensor(PARSER_MEAN).view(3, 1, 1)
    std = face.new_tensor(PARSER_STD).view(3, 1, 1)
    return (face - mean) / std


def area(face: DetectedFace) -> float:
    """Area of the box in square pixels."""
    x0, y0, x1, y1 = face.box
    return float((x1 - x0) * (y1 - y0))


def largest_face(faces: list[DetectedFace]) -> int:
    """Position of the face with the largest box; among equals, the last (official)."""
    return max(range(len(faces)), key=lambda i: (area(faces[i]), i))


def central_face(faces: list[DetectedFace], height: int, width: int) -> int:
    """Position of the face whose box centre is closest to the centre of the image."""
    centre = np.array((width / 2, height / 2))

    def distance(face: DetectedFace) -> float:
        return float(np.linalg.norm((face.box[:2] + face.box[2:]) / 2 - centre))

    return min(range(len(faces)), key=lambda i: distance(faces[i]))


def box_iou(a: Array, b: Array) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1)."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    intersection = float(np.prod(np.clip(high - low, 0, None)))
    union = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - intersection
    return intersection / union if union > 0 else 0.0


def align_face(image: ImageArray, landmarks: Array) -> ImageArray:
    """The face warped to FFHQ's 512 px template; grey outside the image.

    A similarity transform from five landmarks by least median of squares.

    Raises:
        NoFaceError: If the landmarks fit no such transform.
    """
    matrix, _ = cv2.estimateAffinePartial2D(
        landmarks.astype(np.float64), FFHQ_TEMPLATE, method=cv2.LMEDS
    )
    if matrix is None:
        raise NoFaceError("align", f"the five landmarks of the face coincide: {landmarks.tolist()}")
    warped = cv2.warpAffine(
        image,
        matrix,
        (FACE_SIZE, FACE_SIZE),
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=BORDER_BGR,
    )
    return cast(ImageArray, warped)
