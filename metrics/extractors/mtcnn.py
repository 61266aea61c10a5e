"""MTCNN face detection with five landmarks, equal to the `mtcnn` package 1.0.0 without TensorFlow.

Detector of IBench. The weights are those of the package's wheel (MIT licence).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from idbench.metrics.extractors import mtcnn_boxes as box
from idbench.metrics.extractors.mtcnn_networks import ONet, PNet, RNet, load_weights
from idbench.metrics.extractors.packaged import MTCNN_ONET, MTCNN_PNET, MTCNN_RNET
from idbench.metrics.extractors.precision import exact_inference, torch_dtype
from idbench.metrics.extractors.resample import area_average, bilinear_crops
from idbench.metrics.protocol import Features, Item, Missing

PNET_THRESHOLD, RNET_THRESHOLD, ONET_THRESHOLD = 0.6, 0.7, 0.8
_CROPS_AT_ONCE = 1024


class MTCNN:
    """Faces of an image, by falling score, in the pixels of the image.

    Features of an image with n faces and m proposals (m >= n as a rule; both may be 0):

    - `boxes` (n, 4): x1 y1 x2 y2 after O-Net, clipped to the image; `scores` (n,) above 0.8;
      `points` (n, 5, 2): x y of left eye, right eye, nose, left and right mouth corner, left and
      right as seen in the image, not clipped.
    - `boxes_rounded` (n, 4) x y width height and `points_rounded` (n, 5, 2): the integers that the
      package returns.
    - `proposals` (m, 4), `proposal_scores` (m,), `proposals_rounded` (m, 4): the same after R-Net,
      squared and clipped, which is the package's `face_detection_only`.
    - `image_size` (2,): height and width; `searched_size` (2,): those of the image searched.

    Images longer than `max_side` are shrunk to it by area averaging first, and what is found is
    mapped back: the published detector works at native size, so this is part of the fingerprint.
    """

    name = "mtcnn"
    needs: tuple[str, ...] = ()
    reads = "image"
    version = 1

    def __init__(
        self, *, device: str = "cpu", dtype: str = "float32", max_side: int | None = 1024
    ) -> None:
        """Checks that the weights are installed; they are read by the first call.

        Args:
            device: Where the networks run, such as "cpu" or "cuda:0".
            dtype: Arithmetic of the networks; parity with the package is for "float32".
            max_side: Longest side that is searched at native size; None for no limit.

        Raises:
            WeightsError: If the `mtcnn` wheel is not installed.
            ValueError: If `dtype` is unknown or `max_side` is below 12.
        """
        if max_side is not None and max_side < box.CELL:
            raise ValueError(f"max_side must be None or at least {box.CELL}, got {max_side}")
        self._device = torch.device(device)
        self._dtype_name = dtype
        self._dtype = torch_dtype(dtype)
        self._max_side = max_side
        self._networks: tuple[PNet, RNet, ONet] | None = None
        for file in (MTCNN_PNET, MTCNN_RNET, MTCNN_ONET):
            file.require()

    def fingerprint(self) -> Mapping[str, object]:
        """Version, weights and parameters."""
        return {
            "name": self.name,
            "version": self.version,
            "weights": [MTCNN_PNET.sha256, MTCNN_RNET.sha256, MTCNN_ONET.sha256],
            "dtype": self._dtype_name,
            "max_side": self._max_side,
        }

    def __call__(self, items: Sequence[Item]) -> list[Features | Missing]:
        """Finds the faces of each image.

        Images are searched one by one, all crops of one image in one batch: a result that depended
        on which images share a batch would not be reproducible.
        """
        with exact_inference():
            return [self._faces(_image_of(item)) for item in items]

    def _faces(self, image: NDArray[np.uint8]) -> Features:
        height, width = image.shape[:2]
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self._device)
        normalised = _normalised(pixels)
        if self._max_side is not None and max(height, width) > self._max_side:
            scale = self._max_side / max(height, width)
            smaller = max(round(height * scale), 1), max(round(width * scale), 1)
            columns = pixels.transpose(0, 1).float().contiguous()
            normalised = _normalised(area_average(columns, *smaller).round())
        searched = normalised.shape[0], normalised.shape[1]

        proposals = self._propose(normalised)
        proposals, proposal_scores = self._refine(normalised, proposals)
        boxes, scores, points = self._output(normalised, proposals)

        # Pixel centres map to pixel centres.
        factor = np.array([width / searched[1], height / searched[0]])
        shift = (factor - 1) / 2
        boxes = box.clipped(boxes, *searched) * np.tile(factor, 2) + np.tile(shift, 2)
        points = points * factor + shift
        proposals = box.clipped(proposals, *searched) * np.tile(factor, 2) + np.tile(shift, 2)
        return {
            "boxes": boxes,
            "scores": scores,
            "points": points,
            "boxes_rounded": box.rounded_xywh(boxes),
            "points_rounded": np.rint(points).astype(np.int64),
            "proposals": proposals,
            "proposal_scores": proposal_scores,
            "proposals_rounded": box.rounded_xywh(proposals),
            "image_size": np.array([height, width], np.int64),
            "searched_size": np.array(searched, np.int64),
        }

    def _loaded(self) -> tuple[PNet, RNet, ONet]:
        if self._networks is None:
            networks = PNet(), RNet(), ONet()
            for network, file in zip(networks, (MTCNN_PNET, MTCNN_RNET, MTCNN_ONET), strict=True):
                load_weights(network, file)
                # Channels last is several times faster on a CPU for so few channels.
                network.to(self._device, self._dtype).to(memory_format=torch.channels_last)
            self._networks = networks
        return self._networks

    def _propose(self, image: Tensor) -> box.Boxes:
        """P-Net over the pyramid: squares that may hold a face, by falling score."""
        pnet = self._loaded()[0]
        height, width = image.shape[:2]
        columns = image.transpose(0, 1).contiguous()
        scales = box.pyramid_scales(height, width)
        if not scales:
            return np.empty((0, 4))
        probabilities, offsets = [], []
        shapes: list[tuple[int, int]] = []
        for scale in scales:
            level = area_average(columns, int(height * scale), int(width * scale))
            face, offset = pnet(level.to(self._dtype).permute(2, 0, 1)[None])
            shapes.append((face.shape[1], face.shape[2]))
            probabilities.append(face[0].flatten())
            offsets.append(offset[0].flatten(0, 1))
        probability = torch.cat(probabilities)
        # All levels cross to the host together: one wait instead of one per level.
        cells = torch.nonzero(probability > PNET_THRESHOLD)[:, 0]
        found = torch.cat([probability[cells, None], torch.cat(offsets)[cells]], dim=1)
        table = torch.cat([cells[:, None].double(), found.double()], dim=1).cpu().numpy()

        starts = np.cumsum([0] + [tall * wide for tall, wide in shapes])
        kept, kept_scores = [], []
        for place, (scale, (_, wide)) in enumerate(zip(scales, shapes, strict=True)):
            first, last = np.searchsorted(table[:, 0], starts[place : place + 2])
            rows, column = np.divmod(table[first:last, 0].astype(np.int64) - starts[place], wide)
            boxes = box.cell_boxes(
                rows, column, table[first:last, 2:], np.full(last - first, scale)
            )
            boxes, scores = _suppressed(boxes, table[first:last, 1], 0.5)
            kept.append(boxes)
            kept_scores.append(scores)
        boxes, _ = _suppressed(np.concatenate(kept), np.concatenate(kept_scores), 0.7)
        return box.squared(boxes)

    def _refine(self, image: Tensor, proposals: box.Boxes) -> tuple[box.Boxes, NDArray[np.float64]]:
        """R-Net: squares and scores, by falling score."""
        rnet = self._loaded()[1]
        table = self._on_crops(rnet, image, proposals, 24, columns=5)
        boxes, scores = box.refined(proposals, table[:, 1:5]), table[:, 0]
        likely = scores > RNET_THRESHOLD
        boxes, scores = _suppressed(boxes[likely], scores[likely], 0.7)
        return box.squared(boxes), scores

    def _output(
        self, image: Tensor, proposals: box.Boxes
    ) -> tuple[box.Boxes, NDArray[np.float64], NDArray[np.float64]]:
        """O-Net: boxes, scores and points, by falling score."""
        onet = self._loaded()[2]
        table = self._on_crops(onet, image, proposals, 48, columns=15)
        likely = table[:, 0] > ONET_THRESHOLD
        proposals, table = proposals[likely], table[likely]
        order = box.descending(table[:, 0])
        proposals, table = proposals[order], table[order]
        boxes = box.refined(proposals, table[:, 1:5])
        keep = box.unsuppressed(boxes, 0.7, relative_to_smaller=True)
        points = box.face_points(proposals[keep], table[keep, 5:])
        return boxes[keep], table[keep, 0], points

    def _on_crops(
        self, network: RNet | ONet, image: Tensor, boxes: box.Boxes, side: int, *, columns: int
    ) -> NDArray[np.float64]:
        """Outputs of a network on crops, one row per box: score, offsets, landmarks if any."""
        if not len(boxes):
            return np.empty((0, columns))
        on_device = torch.from_numpy(boxes).to(self._device)
        rows = []
        for part in torch.split(on_device, _CROPS_AT_ONCE):
            crops = bilinear_crops(image, part, side)
            crops = crops.to(self._dtype, memory_format=torch.channels_last)
            score, *rest = network(crops)
            rows.append(torch.cat([score[:, None], *rest], dim=1))
        return torch.cat(rows).double().cpu().numpy()


class MTCNNNative:
    """`mtcnn` at native size, whatever the size: what IBench's columns are computed from.

    The features of `mtcnn` are passed on for images that it did not shrink, so no image goes
    through one network twice without need.
    """

    name = "mtcnn_native"
    needs = ("mtcnn",)
    reads = "image"
    version = 1

    def __init__(self, *, device: str = "cpu", dtype: str = "float32") -> None:
        """As for `MTCNN`, without a limit of size."""
        self._native = MTCNN(device=device, dtype=dtype, max_side=None)

    def fingerprint(self) -> Mapping[str, object]:
        """That of the detector, under this name."""
        return {**self._native.fingerprint(), "name": self.name, "version": self.version}

    def __call__(self, items: Sequence[Item]) -> list[Features | Missing]:
        """Finds the faces of each image, or takes them over."""
        results: list[Features | Missing] = []
        for item in items:
            found = item.features["mtcnn"]
            native = np.array_equal(found["image_size"], found["searched_size"])
            results.append(found if native else self._native([item])[0])
        return results


def _normalised(pixels: Tensor) -> Tensor:
    """Values 0 to 255 as network input, float32 in [-1, 1]; exact."""
    return (pixels.float() - 127.5) / 128


def _suppressed(
    boxes: box.Boxes, scores: NDArray[np.float64], threshold: float
) -> tuple[box.Boxes, NDArray[np.float64]]:
    order = box.descending(scores)
    boxes, scores = boxes[order], scores[order]
    keep = box.unsuppressed(boxes, threshold, relative_to_smaller=False)
    return boxes[keep], scores[keep]


def _image_of(item: Item) -> NDArray[np.uint8]:
    if item.image is None:
        raise ValueError("mtcnn reads images, got an item without one")
    return item.image
