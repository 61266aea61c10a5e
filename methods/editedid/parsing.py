"""Face parsers: label maps of a face by FaRL (the paper's) or by facexlib's BiSeNet."""

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from idbench.methods.common.state_dicts import load_strictly
from idbench.methods.editedid.faces import Face, Points
from idbench.methods.editedid.registration import similarity

# facer's models of CelebAMask-HQ, and BiSeNet's labels in the same words.
FARL_LABELS = (
    *("background", "neck", "face", "cloth", "rr", "lr", "rb", "lb", "re", "le", "nose"),
    *("imouth", "llip", "ulip", "hair", "eyeg", "hat", "earr", "neck_l"),
)
BISENET_LABELS = (
    *("background", "face", "lb", "rb", "le", "re", "eyeg", "lr", "rr", "earr", "nose"),
    *("imouth", "ulip", "llip", "neck", "neck_l", "cloth", "hair", "hat"),
)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FaceParser(Protocol):
    """Labels the parts of one face."""

    name: str
    labels: tuple[str, ...]

    def __call__(self, image: Image.Image, face: Face) -> NDArray[np.int64]:
        """Label map (height, width) of an RGB image; 0 far from the face."""
        ...


class FarlParser:
    """FaRL (Zheng et al. 2022) as published by facer: a TorchScript archive, 448 x 448."""

    name = "farl"
    labels: tuple[str, ...] = FARL_LABELS

    def __init__(self, file: Path, *, device: str = "cpu") -> None:
        """Loads the archive `face_parsing.farl.celebm.main_ema_181500_jit.pt`."""
        _require(file, "github.com/FacePerceiver/facer, release models-v1")
        network = torch.jit.load(file, map_location=device)  # type: ignore[no-untyped-call]
        self._network = network.eval()
        self._device = device

    @torch.inference_mode()
    def __call__(self, image: Image.Image, face: Face) -> NDArray[np.int64]:
        """Label map (height, width) of an RGB image; 0 far from the face."""
        aligned, back = _aligned(image, face, 448, self._device)
        scores, *_ = self._network(aligned)
        return _labels(scores, back)


class BiSeNetParser:
    """BiSeNet trained on CelebAMask-HQ, `parsing_bisenet.pth` of facexlib, 512 x 512."""

    name = "bisenet"
    labels: tuple[str, ...] = BISENET_LABELS

    def __init__(self, file: Path, *, device: str = "cpu") -> None:
        """Loads the state dict strictly.

        Raises:
            ValueError: If the file is of another network.
        """
        from facexlib.parsing.bisenet import BiSeNet

        _require(file, "github.com/xinntao/facexlib, release v0.2.0")
        network: nn.Module = BiSeNet(num_class=len(BISENET_LABELS))
        state = torch.load(file, map_location="cpu", weights_only=True)
        load_strictly(network, state, file)
        self._network = network.eval().to(device)
        self._device = device

    @torch.inference_mode()
    def __call__(self, image: Image.Image, face: Face) -> NDArray[np.int64]:
        """Label map (height, width) of an RGB image; 0 far from the face."""
        aligned, back = _aligned(image, face, 512, self._device)
        mean, std = (torch.tensor(v, device=self._device).view(3, 1, 1) for v in (_MEAN, _STD))
        return _labels(self._network((aligned - mean) / std)[0], back)


def face_quad(landmarks: Points) -> Points:
    """Corners of the oriented square of CelebA-HQ around a face, clockwise from the upper left.

    The square is spanned by the line between the eyes and that from eyes to mouth; both parsers
    were trained on pictures cut in this way (Karras et al. 2018, appendix C).

    Args:
        landmarks: Eyes, nose, mouth corners, (5, 2).
    """
    eyes, mouth = landmarks[:2].mean(0) + 0.5, landmarks[3:].mean(0) + 0.5
    across, down = landmarks[1] - landmarks[0], mouth - eyes
    x = across - _quarter_turn(down)
    x *= max(2.0 * np.hypot(*across), 1.8 * np.hypot(*down)) / np.hypot(*x)
    y = _quarter_turn(x)
    centre = eyes + 0.1 * down
    return np.stack([centre - x - y, centre + x - y, centre + x + y, centre - x + y])


def _quarter_turn(vector: Points) -> Points:
    return np.array([-vector[1], vector[0]])


def _aligned(image: Image.Image, face: Face, side: int, device: str) -> tuple[Tensor, Tensor]:
    """The face's square (1, 3, side, side) in [0, 1], and the sampling grid back to the image."""
    if face.landmarks is None:
        centre, half = np.array(face.centre), 0.75 * face.size
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=np.float64)
        quad = centre + half * corners
    else:
        quad = face_quad(face.landmarks)
    square = np.array([[0, 0], [side, 0], [side, side], [0, side]], dtype=np.float64)
    to_square = similarity(quad, square)
    from_square = similarity(square, quad)
    pixels = torch.from_numpy(np.asarray(image.convert("RGB")).copy()).to(device)
    pixels = pixels.permute(2, 0, 1)[None].float() / 255.0
    there = _grid(from_square, (side, side), image.size)
    back = _grid(to_square, (image.height, image.width), (side, side))
    aligned = grid_sample(pixels, there.to(device), align_corners=False)
    return aligned, back.to(device)


def _grid(
    matrix: NDArray[np.float64], shape: tuple[int, int], source_size: tuple[int, int]
) -> Tensor:
    """Where each pixel of a canvas `shape` lies in a source of (width, height), in [-1, 1]."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    points = np.stack([columns, rows], -1) @ matrix[:, :2].T + matrix[:, 2]
    return torch.from_numpy(2.0 * points / np.array(source_size) - 1.0).float()[None]


def _labels(scores: Tensor, back: Tensor) -> NDArray[np.int64]:
    """Most likely label at every pixel of the image; background outside the square."""
    probability = torch.softmax(scores.float(), dim=1)
    found = grid_sample(probability, back, align_corners=False)[0]
    outside = found.sum(0) < 0.5
    return found.argmax(0).masked_fill(outside, 0).cpu().numpy()


def _require(file: Path, source: str) -> None:
    if not file.is_file():
        raise FileNotFoundError(
            f"no face parser at {file}; get it from {source} and give the file as parser_weights, "
            "or set parser='none' and give masks"
        )
