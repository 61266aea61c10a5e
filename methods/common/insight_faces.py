"""Faces of pictures by two networks of insightface, a detector and a recogniser."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

DETECTION_SIZE = (640, 640)

FaceBox = tuple[float, float, float, float]


class NoFaceError(ValueError):
    """A picture of a person in which no face was found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundFace:
    """A face in a picture.

    `box` is (x0, y0, x1, y1) and `landmarks` (5, 2) eyes, nose and corners of the mouth, both in
    pixels.
    """

    box: FaceBox
    score: float
    landmarks: NDArray[np.float32]

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        x0, y0, x1, y1 = self.box
        return max(0.0, x1 - x0) * max(0.0, y1 - y0)


class InsightFaces:
    """A detector with five landmarks (SCRFD) and an ArcFace recogniser, on onnxruntime."""

    def __init__(self, detector: Path, recogniser: Path, *, device: str = "cpu") -> None:
        """Opens both sessions.

        Args:
            detector: Such as `det_10g.onnx` or `scrfd_10g_bnkps.onnx`.
            recogniser: Such as `w600k_r50.onnx` or `glintr100.onnx`.
            device: A torch device; "cuda" is used if onnxruntime can.

        Raises:
            FileNotFoundError: If a file is absent.
        """
        for path in (detector, recogniser):
            if not path.is_file():
                raise FileNotFoundError(f"there is no {path}")
        from insightface.model_zoo import get_model

        kind, _, number = device.partition(":")
        providers: list[object] = ["CPUExecutionProvider"]
        if kind == "cuda":
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": int(number or 0)}))
        self._detector: Any = get_model(str(detector), providers=providers)
        self._recogniser: Any = get_model(str(recogniser), providers=providers)
        context = 0 if kind == "cuda" else -1
        self._detector.prepare(context, input_size=DETECTION_SIZE, det_thresh=0.5)
        self._recogniser.prepare(context)

    def find(self, picture: Image.Image) -> list[FoundFace]:
        """All faces of an RGB picture, by falling score."""
        boxes, landmarks = self._detector.detect(_bgr(picture))
        return [
            FoundFace(
                box=(float(x0), float(y0), float(x1), float(y1)),
                score=float(score),
                landmarks=points,
            )
            for (x0, y0, x1, y1, score), points in zip(boxes, landmarks, strict=True)
        ]

    def embed(self, picture: Image.Image, face: FoundFace) -> NDArray[np.float32]:
        """The embedding (512,) of a face, as the network gives it: its length is not 1."""
        from insightface.app.common import Face

        with _quiet():
            raw = self._recogniser.get(_bgr(picture), Face(kps=face.landmarks))
        return np.asarray(raw, dtype=np.float32).reshape(-1)


def aligned_crop(picture: Image.Image, face: FoundFace, size: int) -> Image.Image:
    """The face warped to ArcFace's template; `size` in pixels, a multiple of 112 or 128."""
    from insightface.utils.face_align import norm_crop

    with _quiet():
        crop = norm_crop(np.asarray(picture.convert("RGB")), face.landmarks, image_size=size)
    return Image.fromarray(crop)


def choose_face(faces: Sequence[FoundFace], near: FaceBox | None = None) -> FoundFace:
    """The face that stands for a picture.

    The one that overlaps `near` most, if that is given and any does; else the largest, of equal
    ones the surest.

    Raises:
        NoFaceError: If there is none.
    """
    if not faces:
        raise NoFaceError("no face was found")
    if near is not None:
        best = max(faces, key=lambda face: _shared(face.box, near))
        if _shared(best.box, near) > 0.0:
            return best
    return max(faces, key=lambda face: (face.area, face.score))


def _shared(first: FaceBox, second: FaceBox) -> float:
    """Intersection over union, in [0, 1]."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    inside = max(0.0, width) * max(0.0, height)
    areas = sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (first, second))
    return inside / (areas - inside) if areas > inside else 0.0


def _bgr(picture: Image.Image) -> NDArray[np.uint8]:
    rgb = np.asarray(picture.convert("RGB"), dtype=np.uint8)
    return np.ascontiguousarray(rgb[:, :, ::-1])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warning that insightface causes in scikit-image for every face it aligns."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`estimate` is deprecated", FutureWarning)
        yield
