"""Faces of the two images: boxes, five landmarks and, where a detector has one, an embedding."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Box = tuple[float, float, float, float]
Points = NDArray[np.float64]


class NoFaceError(ValueError):
    """An image has no face that could be restored."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Face:
    """One face.

    Attributes:
        box: (x0, y0, x1, y1) in pixels.
        landmarks: Eyes, nose, mouth corners, as seen from the left, (5, 2) in pixels, or None.
        embedding: Of unit length, or None.
    """

    box: Box
    landmarks: Points | None = None
    embedding: NDArray[np.float64] | None = None

    @property
    def size(self) -> float:
        """The longer side of the box."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])

    @property
    def centre(self) -> tuple[float, float]:
        """Of the box."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2

    @property
    def points(self) -> Points:
        """What registration fits: the landmarks, or the corners of the box where there are none."""
        if self.landmarks is not None:
            return self.landmarks
        x0, y0, x1, y1 = self.box
        return np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]], dtype=np.float64)


# dlib finds faces of 80 pixels, half as large in an image that is doubled. On photographs of one
# and of six people all true faces scored over 0.35 and the one false one 0.12.
_UPSAMPLE, _MIN_SCORE = 1, 0.2

# RGB image -> its faces
FaceDetector = Callable[[Image.Image], list[Face]]


def intersection_over_union(a: Box, b: Box) -> float:
    """Overlap of two boxes, in [0, 1]."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


class DlibFaces:
    """dlib's frontal detector, its 68 landmarks and its descriptor, from installed packages.

    Needs the extra `embedded` and no download. The descriptor is good enough to tell the people
    of one picture apart; it takes no part in scores.
    """

    name = "dlib"

    def __init__(self) -> None:
        """Loads the three models.

        Raises:
            ImportError: If dlib or face_recognition_models is not installed.
        """
        # Located without being imported: its __init__ needs a module that setuptools dropped.
        spec = find_spec("face_recognition_models")
        if find_spec("dlib") is None or spec is None or not spec.submodule_search_locations:
            raise ImportError(
                "the face detector 'dlib' needs dlib-bin and face_recognition_models: "
                "pip install 'idbench[embedded]'"
            )
        import dlib

        folder = Path(spec.submodule_search_locations[0]) / "models"
        self._dlib: Any = dlib
        self._detect = dlib.get_frontal_face_detector()
        self._shape = dlib.shape_predictor(str(folder / "shape_predictor_68_face_landmarks.dat"))
        self._embed = dlib.face_recognition_model_v1(
            str(folder / "dlib_face_recognition_resnet_model_v1.dat")
        )

    def __call__(self, image: Image.Image) -> list[Face]:
        """Faces of an RGB image, left to right."""
        pixels = np.asarray(image.convert("RGB"))
        found = []
        boxes, _, _ = self._detect.run(pixels, _UPSAMPLE, _MIN_SCORE)
        for box in boxes:
            shape = self._shape(pixels, box)
            points = np.array([(p.x, p.y) for p in shape.parts()], dtype=np.float64)
            descriptor = np.array(self._embed.compute_face_descriptor(pixels, shape))
            found.append(
                Face(
                    box=(box.left(), box.top(), box.right() + 1.0, box.bottom() + 1.0),
                    landmarks=five_of_68(points),
                    embedding=descriptor / np.linalg.norm(descriptor),
                )
            )
        return left_to_right(found)


class InsightFaces:
    """insightface's SCRFD detector and ArcFace embedding, from a local folder of ONNX files."""

    name = "insightface"

    def __init__(self, folder: Path, *, device: str = "cpu") -> None:
        """Loads the networks; only those of `folder`, nothing is fetched.

        Raises:
            FileNotFoundError: If the folder holds no ONNX file.
            ImportError: If insightface is not installed.
        """
        if not any(folder.glob("*.onnx")):
            raise FileNotFoundError(
                f"no ONNX file in {folder}; unpack insightface's buffalo_l.zip there and give the "
                "folder as detector_weights"
            )
        from insightface.app import FaceAnalysis

        providers = ["CPUExecutionProvider"]
        if device.startswith("cuda"):
            providers.insert(0, "CUDAExecutionProvider")
        self._app: Any = FaceAnalysis(
            name=str(folder.resolve()),
            allowed_modules=["detection", "recognition"],
            providers=providers,
        )
        self._app.prepare(ctx_id=0, det_size=(640, 640))

    def __call__(self, image: Image.Image) -> list[Face]:
        """Faces of an RGB image, left to right."""
        bgr = np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])
        found = []
        for face in self._app.get(bgr):
            x0, y0, x1, y1 = (float(edge) for edge in face.bbox)
            embedding = getattr(face, "normed_embedding", None)
            found.append(
                Face(
                    box=(x0, y0, x1, y1),
                    landmarks=np.asarray(face.kps, dtype=np.float64),
                    embedding=None if embedding is None else np.asarray(embedding, np.float64),
                )
            )
        return left_to_right(found)


def five_of_68(points: Points) -> Points:
    """Eye centres, nose tip and mouth corners of the 68-point convention."""
    eyes = [points[36:42].mean(0), points[42:48].mean(0)]
    return np.stack([*eyes, points[30], points[48], points[54]])


def left_to_right(faces: list[Face]) -> list[Face]:
    """Faces sorted by the middle of their boxes."""
    return sorted(faces, key=lambda face: face.centre[0])
