"""Faces of reference pictures: insightface's buffalo_l networks, read from a local folder."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from idbench.methods.dynamicid.config import FaceChoice

DETECTION_SIZE = (512, 512)
MODULES = ("detection", "recognition", "landmark_2d_106", "landmark_3d_68")
FILES = ("det_10g.onnx", "w600k_r50.onnx", "2d106det.onnx", "1k3d68.onnx")

FaceBox = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""


class NoFaceError(ValueError):
    """A picture of a person in which no face was found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Face:
    """One detected face.

    `id_embedding` is the ArcFace vector of length 1, (512,). `landmarks` are 106 points (x, y) in
    pixels of the picture. `pitch` and `yaw` are degrees: pitch above 0 is up, yaw above 0 is
    the nose towards the right edge of the picture.
    """

    box: FaceBox
    score: float
    id_embedding: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    pitch: float
    yaw: float

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        x0, y0, x1, y1 = self.box
        return max(0.0, x1 - x0) * max(0.0, y1 - y0)


class FaceAnalyser:
    """Detector, embedder, landmarks and pose in one pass over a picture.

    `folder` holds the ONNX files of buffalo_l; `device` "cuda" runs them there if onnxruntime
    can. `legacy_rgb` gives the embedder and the pose network RGB pictures, though they expect BGR,
    as the official code does; landmarks are right in both.
    """

    def __init__(self, folder: Path, *, device: str = "cpu", legacy_rgb: bool = False) -> None:
        """Loads the networks.

        Raises:
            FileNotFoundError: If an ONNX file is absent; the message names the folder.
            ValueError: If the files are not the networks that they are named after.
        """
        from insightface.app import FaceAnalysis

        absent = [name for name in FILES if not (folder / name).is_file()]
        if absent:
            raise FileNotFoundError(f"no {', '.join(absent)} in {folder}")
        providers = ["CPUExecutionProvider"]
        if device.startswith("cuda"):
            providers.insert(0, "CUDAExecutionProvider")
        self._legacy_rgb = legacy_rgb
        self._app: Any = FaceAnalysis(
            name=str(folder.resolve()), allowed_modules=list(MODULES), providers=providers
        )
        missing = [name for name in MODULES if name not in self._app.models]
        if missing:
            raise ValueError(f"the networks in {folder} lack {', '.join(missing)}")
        self._app.prepare(ctx_id=0, det_size=DETECTION_SIZE)

    def __call__(self, picture: NDArray[np.uint8]) -> list[Face]:
        """All faces of an RGB picture (height, width, 3) in descending detection score."""
        bgr = np.ascontiguousarray(picture[:, :, ::-1])
        found = self._detect(bgr)
        if not self._legacy_rgb:
            return [_face(entry, entry.landmark_2d_106) for entry in found]
        legacy = self._detect(np.ascontiguousarray(picture))
        # Detection differs between the two colour orders; landmarks come from the nearest face.
        landmarks = [_nearest(entry, found) for entry in legacy]
        return [_face(entry, points) for entry, points in zip(legacy, landmarks, strict=True)]

    def _detect(self, picture: NDArray[np.uint8]) -> list[Any]:
        with warnings.catch_warnings():
            # insightface calls a deprecated function of scikit-image for every face it aligns.
            warnings.filterwarnings("ignore", "`estimate` is deprecated", FutureWarning)
            return list(self._app.get(picture))


def _face(entry: Any, landmarks: NDArray[np.float32]) -> Face:
    pitch, yaw, _ = entry.pose
    x0, y0, x1, y1 = (float(edge) for edge in entry.bbox)
    return Face(
        box=(x0, y0, x1, y1),
        score=float(entry.det_score),
        id_embedding=np.asarray(entry.normed_embedding, dtype=np.float32),
        landmarks=np.asarray(landmarks, dtype=np.float32),
        pitch=float(pitch),
        yaw=float(yaw),
    )


def _nearest(entry: Any, found: Sequence[Any]) -> NDArray[np.float32]:
    overlaps = [overlap(tuple(entry.bbox), tuple(other.bbox)) for other in found]
    source = found[int(np.argmax(overlaps))] if found else entry
    points: NDArray[np.float32] = source.landmark_2d_106
    return points


def overlap(first: FaceBox, second: FaceBox) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (first, second))
    return shared / (areas - shared) if areas > shared else 0.0


def choose_face(
    faces: Sequence[Face], rule: FaceChoice = "largest", near: FaceBox | None = None
) -> Face:
    """The face that stands for a picture.

    The one that overlaps `near` most, if that is given and any does; else the largest (of equal
    ones the surest), or the first for the rule of the official code.

    Raises:
        NoFaceError: If there is none.
    """
    if not faces:
        raise NoFaceError("no face was found")
    if near is not None:
        best = max(faces, key=lambda face: overlap(face.box, near))
        if overlap(best.box, near) > 0.0:
            return best
    if rule == "first":
        return faces[0]
    return max(faces, key=lambda face: (face.area, face.score))
