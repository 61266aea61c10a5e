"""Faces and their ArcFace embeddings, from insightface's packs antelopev2 and buffalo_l.

ArcFace (arXiv 1801.07698). The ONNX files are read through onnxruntime; detection, alignment and
batching are ours, so that one image is detected once and all its faces are embedded together.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from idbench.metrics.alignment import face_transform
from idbench.metrics.extractors.items import image_of
from idbench.metrics.extractors.onnx_network import OnnxNetwork
from idbench.metrics.extractors.scrfd import DETECTION_SIZE, SCORE_THRESHOLD, SCRFD
from idbench.metrics.protocol import Features, Item, Missing
from idbench.metrics.weights import WeightStore

Pack = Literal["antelopev2", "buffalo_l"]

# Detector, recogniser and 68-point network of each pack.
FILES: Mapping[str, tuple[str, str, str]] = {
    "antelopev2": ("scrfd_10g_bnkps.onnx", "glintr100.onnx", "1k3d68.onnx"),
    "buffalo_l": ("det_10g.onnx", "w600k_r50.onnx", "1k3d68.onnx"),
}

ALIGNED_SIZE = 112


def aligned_face(
    image: NDArray[np.uint8], points: NDArray[np.floating], size: int = ALIGNED_SIZE
) -> NDArray[np.uint8]:
    """The face of five points, warped bilinearly to ArcFace's template; black outside the image."""
    matrix = face_transform(points, size)
    warped: NDArray[np.uint8] = np.asarray(
        cv2.warpAffine(image, matrix, (size, size), borderValue=0.0), np.uint8
    )
    return warped


def arcface_input(aligned: NDArray[np.uint8]) -> NDArray[np.float32]:
    """An aligned RGB face as the network takes it: (x - 127.5) / 127.5, `3 height width`."""
    return (aligned.astype(np.float32).transpose(2, 0, 1) - 127.5) / 127.5


class InsightFace:
    """Faces of an image by falling detection score, with what identifies them.

    Features of an image with n faces (n may be 0):

    - `boxes` (n, 4): x1 y1 x2 y2, not clipped; `scores` (n,) of at least `threshold`;
      `points` (n, 5, 2): x y of left eye, right eye, nose, left and right mouth corner, left and
      right as seen in the image.
    - `embeddings` (n, 512): ArcFace, not normalised.
    - `image_size` (2,): height and width.
    """

    needs: tuple[str, ...] = ()
    reads: Literal["image"] = "image"
    version = 1

    def __init__(
        self,
        store: WeightStore,
        *,
        pack: Pack = "antelopev2",
        device: str = "cpu",
        dtype: str = "float32",
        batch_size: int | None = None,
        detection_size: int = DETECTION_SIZE,
        threshold: float = SCORE_THRESHOLD,
    ) -> None:
        """Finds the files; they are loaded by the first call.

        Args:
            store: Where the weights lie.
            pack: Which networks; also the name of the extractor.
            device: "cpu" or CUDA.
            dtype: Without effect: the ONNX files compute in float32.
            batch_size: Faces per pass of the recogniser; None picks by device.
            detection_size: Side of the detector's input.
            threshold: Lowest detection score.

        Raises:
            MissingWeightsError: If a file of the pack is absent.
            WrongWeightsError: If a file is not the published one.
        """
        del dtype
        detector, recogniser, _ = FILES[pack]
        self.name = pack
        digests = store.digests(pack)
        self._digests = {name: digests[name] for name in (detector, recogniser)}
        self._parameters = {"detection_size": detection_size, "threshold": threshold}
        self._detector_network = OnnxNetwork(store.locate(pack, detector), device=device)
        self._detector = SCRFD(self._detector_network, size=detection_size, threshold=threshold)
        self._recogniser = OnnxNetwork(
            store.locate(pack, recogniser), device=device, batch_size=batch_size
        )

    def fingerprint(self) -> Mapping[str, object]:
        """Version, weights and parameters."""
        return {
            "name": self.name,
            "version": self.version,
            "weights": self._digests,
            **self._parameters,
        }

    def release(self) -> None:
        """Frees the networks."""
        self._detector_network.release()
        self._recogniser.release()

    def __call__(self, items: Sequence[Item]) -> list[Features | Missing]:
        """Faces of each image: detected one image at a time, embedded in batches over all."""
        found = []
        faces: list[NDArray[np.float32]] = []
        for item in items:
            image = image_of(item)
            boxes, scores, points = self._detector(image)
            faces.extend(arcface_input(aligned_face(image, five)) for five in points)
            found.append((boxes, scores, points, image.shape[:2]))
        embeddings = self._recogniser(faces) if faces else []
        features: list[Features | Missing] = []
        start = 0
        for boxes, scores, points, size in found:
            own = embeddings[start : start + len(boxes)]
            start += len(boxes)
            features.append(
                {
                    "boxes": boxes,
                    "scores": scores,
                    "points": points,
                    "embeddings": np.stack(own) if own else np.empty((0, 512), np.float32),
                    "image_size": np.array(size, np.int64),
                }
            )
        return features
