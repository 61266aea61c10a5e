"""Head pose from the 68 three-dimensional landmarks of insightface's packs.

`1k3d68.onnx`; the estimator that DynamicID's Pose cites. An affine camera is fitted from the mean
face to the landmarks, and its rotation read as angles, as insightface 2.1 does.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from idbench.metrics.extractors.insightface import FILES, Pack
from idbench.metrics.extractors.items import features_of, image_of
from idbench.metrics.extractors.onnx_network import OnnxNetwork
from idbench.metrics.extractors.packaged import MEAN_SHAPE_68, mean_shape_68
from idbench.metrics.pose import euler_degrees
from idbench.metrics.protocol import Features, Item, Missing
from idbench.metrics.weights import WeightStore

SIDE = 192
POINTS = 68
# Side of the crop in face sizes.
SCALE = 1.5


def face_matrix(box: NDArray[np.floating]) -> NDArray[np.float64]:
    """From image pixels to the crop, `2 3`: the box centred, its longer side 1/1.5 of the crop."""
    x1, y1, x2, y2 = (float(value) for value in box)
    scale = SIDE / (max(x2 - x1, y2 - y1) * SCALE)
    shift_x = SIDE / 2 - scale * (x1 + x2) / 2
    shift_y = SIDE / 2 - scale * (y1 + y2) / 2
    return np.array([[scale, 0.0, shift_x], [0.0, scale, shift_y]])


def landmarks(output: NDArray[np.floating], matrix: NDArray[np.floating]) -> NDArray[np.float64]:
    """The last 68 points of the network's output in image pixels, `68 3`; z in pixels too."""
    points = np.asarray(output, np.float64).reshape(-1, 3)[-POINTS:] * (SIDE // 2)
    points[:, :2] += SIDE // 2
    scale = matrix[0, 0]
    points[:, :2] = (points[:, :2] - matrix[:, 2]) / scale
    points[:, 2] /= scale
    return points


def rotation(points: NDArray[np.floating], mean_shape: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rotation `3 3` of the affine camera that carries the mean face to the points."""
    homogeneous = np.hstack([mean_shape, np.ones((len(mean_shape), 1))])
    camera = np.linalg.lstsq(homogeneous, np.asarray(points, np.float64), rcond=None)[0].T
    first, second = (row[:3] / np.linalg.norm(row[:3]) for row in camera[:2])
    return np.vstack([first, second, np.cross(first, second)])


class InsightFacePose:
    """Features of an image with n faces, in the order of the detector.

    - `pose` (n, 3): yaw, pitch and roll in degrees. The signs are those of the mean face: +15
      degrees about its x axis is +15 degrees of pitch.
    - `landmarks` (n, 68, 3): x and y in pixels, z towards the back.
    """

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
    ) -> None:
        """Finds the weights; they are read by the first call.

        `dtype` has no effect: the ONNX file computes in float32.

        Raises:
            MissingWeightsError: If the weights are absent.
            WeightsError: If insightface, which ships the mean face, is not installed.
        """
        del dtype
        name = FILES[pack][2]
        MEAN_SHAPE_68.require()
        self.name = f"{pack}.pose"
        self.needs = (pack,)
        self._digest = store.digests(pack)[name]
        self._network = OnnxNetwork(store.locate(pack, name), device=device, batch_size=batch_size)

    def fingerprint(self) -> Mapping[str, object]:
        """Version, weights and the mean face."""
        return {
            "name": self.name,
            "version": self.version,
            "weights": {"1k3d68.onnx": self._digest, "meanshape_68.pkl": MEAN_SHAPE_68.sha256},
        }

    def release(self) -> None:
        """Frees the network."""
        self._network.release()

    def __call__(self, items: Sequence[Item]) -> list[Features | Missing]:
        """Pose of every face of each image."""
        shape = mean_shape_68()
        matrices = [
            [face_matrix(box) for box in features_of(item, self.needs[0])["boxes"]]
            for item in items
        ]
        crops = [
            _input(image_of(item), matrix)
            for item, of_image in zip(items, matrices, strict=True)
            for matrix in of_image
        ]
        outputs = iter(self._network(crops) if crops else [])
        results: list[Features | Missing] = []
        for of_image in matrices:
            points = [landmarks(next(outputs), matrix) for matrix in of_image]
            angles = [euler_degrees(rotation(of_face, shape)) for of_face in points]
            results.append(
                {
                    "pose": np.stack(angles) if angles else np.empty((0, 3)),
                    "landmarks": np.stack(points) if points else np.empty((0, POINTS, 3)),
                }
            )
        return results


def _input(image: NDArray[np.uint8], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    # The released graph begins with its own normalisation, so it takes values of 0 to 255.
    crop = cv2.warpAffine(image, matrix, (SIDE, SIDE), borderValue=0.0)
    return np.asarray(crop, np.float32).transpose(2, 0, 1)
