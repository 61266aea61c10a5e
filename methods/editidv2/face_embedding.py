"""Embeddings of the faces in latents, with gradients: decode, find, align, recognise."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from idbench.methods.pulid.faces import FaceRecogniser, ImageArray, largest_face

FACE_SIDE = 112
# insightface's template for a 112 px crop (face_align.py): eyes, nose, mouth corners
ARCFACE_TEMPLATE = np.array(
    [
        (38.2946, 51.6963),
        (73.5318, 51.5014),
        (56.0252, 71.7366),
        (41.5493, 92.3655),
        (70.7299, 92.2041),
    ]
)


def similarity_transform(landmarks: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """The similarity [2, 3] that takes five landmarks to the template, by least squares."""
    x, y = landmarks.astype(np.float64).T
    ones, zeros = np.ones_like(x), np.zeros_like(x)
    rows = np.concatenate(
        (np.stack((x, -y, ones, zeros), axis=1), np.stack((y, x, zeros, ones), axis=1))
    )
    a, b, tx, ty = np.linalg.lstsq(rows, ARCFACE_TEMPLATE.T.reshape(-1), rcond=None)[0]
    return np.array([[a, -b, tx], [b, a, ty]])


def warp_face(image: Tensor, matrix: npt.NDArray[np.float64]) -> Tensor:
    """The aligned face [1, 3, 112, 112] of an image [1, 3, height, width] in [-1, 1].

    Bilinear, black outside the image, with gradients to the image.

    Args:
        image: RGB.
        matrix: From pixels of the image to pixels of the face, [2, 3].
    """
    height, width = image.shape[-2:]
    inverse = np.linalg.inv(np.vstack((matrix, (0, 0, 1))))
    columns, rows = np.meshgrid(np.arange(FACE_SIDE), np.arange(FACE_SIDE))
    pixels = np.stack((columns, rows, np.ones_like(rows)), axis=-1) @ inverse[:2].T
    points = 2 * pixels / (width - 1, height - 1) - 1
    grid = torch.from_numpy(points).to(image).unsqueeze(0)
    # grid_sample pads with zeros, which would be grey
    return functional.grid_sample(image + 1, grid, align_corners=True) - 1


@dataclass(frozen=True, slots=True)
class FoundFaces:
    """Embeddings [number found, 512], None for none, and which samples have one, bool [batch]."""

    embeddings: Tensor | None
    found: Tensor


class LatentFaces:
    """Finds and embeds the largest face in each decoded latent.

    Args:
        decode: Latents as the VAE takes them, [1, channels, h, w], to images in [-1, 1].
        detector: Finds faces and landmarks in the detached image.
        arcface: Embeds aligned faces.
        margin: The latents that are decoded with gradients are those of the face's box, widened by
            this share of its size on every side, which saves memory; None decodes all.
        scale: Pixels per latent.
    """

    def __init__(
        self,
        decode: Callable[[Tensor], Tensor],
        detector: FaceRecogniser,
        arcface: nn.Module,
        *,
        margin: float | None = 0.5,
        scale: int = 8,
    ) -> None:
        """Keeps the networks."""
        self.decode = decode
        self.detector = detector
        self.arcface = arcface
        self.margin = margin
        self.scale = scale

    def __call__(self, latents: Tensor) -> FoundFaces:
        """Faces of latents [batch, channels, h, w], with gradients to the latents."""
        embeddings, found = [], []
        for sample in torch.split(latents, 1):
            landmarks, box = self._find(sample)
            found.append(landmarks is not None)
            if landmarks is None or box is None:
                continue
            top, left, part = self._part(sample, box)
            decoded = checkpoint(self.decode, part, use_reentrant=False)
            offset = np.array((left * self.scale, top * self.scale))
            face = warp_face(decoded.float().clamp(-1, 1), similarity_transform(landmarks - offset))
            embeddings.append(self.arcface(face))
        mask = torch.tensor(found, device=latents.device)
        return FoundFaces(torch.cat(embeddings) if embeddings else None, mask)

    def _find(
        self, sample: Tensor
    ) -> tuple[npt.NDArray[np.float32] | None, npt.NDArray[np.float32] | None]:
        with torch.no_grad():
            image = self.decode(sample.detach()).float().clamp(-1, 1)[0]
        pixels = (127.5 * (image + 1)).round().byte().permute(1, 2, 0).cpu().numpy()
        bgr = cast(ImageArray, np.ascontiguousarray(pixels[..., ::-1]))
        faces = self.detector.detect(bgr)
        if not faces:
            return None, None
        face = faces[largest_face(faces)]
        return face.landmarks, face.box

    def _part(self, sample: Tensor, box: npt.NDArray[np.float32]) -> tuple[int, int, Tensor]:
        """Top and left latent of the part that holds the face, and the part."""
        if self.margin is None:
            return 0, 0, sample
        height, width = sample.shape[-2:]
        x0, y0, x1, y1 = box / self.scale
        grow_x, grow_y = self.margin * (x1 - x0), self.margin * (y1 - y0)
        left, top = max(0, int(x0 - grow_x)), max(0, int(y0 - grow_y))
        right = min(width, int(np.ceil(x1 + grow_x)))
        bottom = min(height, int(np.ceil(y1 + grow_y)))
        if right - left < 1 or bottom - top < 1:
            return 0, 0, sample
        return top, left, sample[..., top:bottom, left:right]
