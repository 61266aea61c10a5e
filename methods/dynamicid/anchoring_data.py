"""Data of the anchoring stage: pictures of one person with captions, and their frozen features.

The list is the official JSON: [{"image_file": ..., "text": ...}, ...]. What the frozen networks
see in a picture is computed once and kept beside the run, so that training needs neither CLIP nor
insightface nor the VAE's encoder.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from idbench.methods.common.files import sha256_of_file, write_with
from idbench.methods.dynamicid.encoder import FaceEncoder
from idbench.methods.dynamicid.faces import FaceAnalyser

log = logging.getLogger(__name__)

MIN_SCORE = 0.6
MIN_SIDE = 64.0  # of the face box, in pixels of a picture whose shorter side is 512


@dataclass(frozen=True, slots=True)
class Caption:
    """One entry of the list: a picture and what it shows."""

    image: Path
    text: str


def read_captions(path: Path, images: Path | None = None) -> list[Caption]:
    """Reads the list; picture names are relative to `images`, else to the list's folder.

    Raises:
        ValueError: If the file is no such list; the message names the first bad entry.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path}: must be a list of {{image_file, text}} with at least one entry")
    root = images or path.parent
    captions = []
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not {"image_file", "text"} <= entry.keys():
            raise ValueError(f"{path}: entry {number} must have image_file and text, got {entry!r}")
        captions.append(Caption(root / str(entry["image_file"]), str(entry["text"])))
    return captions


def refusal(analyser: FaceAnalyser, picture: Image.Image) -> str | None:
    """Why a picture is no use for training, or None.

    Our reading of "high-quality human images": exactly one face, found with a score of at least
    0.6, of at least 64 pixels at 512.
    """
    faces = analyser(np.asarray(picture))
    if len(faces) != 1:
        return f"{len(faces)} faces"
    face = faces[0]
    x0, y0, x1, y1 = face.box
    side = min(x1 - x0, y1 - y0) * 512 / min(picture.size)
    if face.score < MIN_SCORE:
        return f"the face has score {face.score:.2f}, below {MIN_SCORE}"
    if side < MIN_SIDE:
        return f"the face has {side:.0f} px, less than {MIN_SIDE:.0f}"
    return None


def training_pixels(picture: Image.Image, resolution: int) -> Tensor:
    """The target, (3, resolution, resolution) in [-1, 1]: shorter side, then the middle."""
    width, height = picture.size
    scale = resolution / min(width, height)
    size = (max(resolution, round(width * scale)), max(resolution, round(height * scale)))
    resized = picture.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    left, top = (size[0] - resolution) // 2, (size[1] - resolution) // 2
    square = resized.crop((left, top, left + resolution, top + resolution))
    pixels = torch.from_numpy(np.asarray(square, dtype=np.float32))
    return pixels.permute(2, 0, 1) / 127.5 - 1.0


@torch.no_grad()
def latent_moments(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    """Mean and standard deviation of the latents before scaling, (2, 4, h, w) in float32."""
    posterior = vae.encode(pixels[None].to(vae.device, vae.dtype)).latent_dist
    moments: Tensor = torch.stack([posterior.mean[0], posterior.std[0]]).float().cpu()
    return moments


def sample_latents(moments: Tensor, noise: Tensor, scaling_factor: float) -> Tensor:
    """A draw from the VAE's posterior, scaled as the UNet expects it (0.18215)."""
    return (moments[0] + moments[1] * noise) * scaling_factor


@dataclass(frozen=True, slots=True)
class Sample:
    """Features of one picture: id (512,), CLIP tokens (257, 1280), moments (2, 4, h, w)."""

    text: str
    id_embeds: Tensor
    clip_hidden: Tensor
    moments: Tensor


class FeatureCache:
    """Features by picture, in one file each, under a folder of the settings that made them."""

    def __init__(self, root: Path, made_with: Mapping[str, str]) -> None:
        """`made_with` is everything that the features depend on besides the pictures."""
        digest = hashlib.sha256(json.dumps(dict(made_with), sort_keys=True).encode()).hexdigest()
        self.folder = root / digest[:16]
        self._made_with = dict(made_with)
        self._paths: dict[Path, Path] = {}  # of pictures that have been hashed

    def build(
        self, captions: list[Caption], encoder: FaceEncoder, vae: AutoencoderKL, resolution: int
    ) -> None:
        """Adds what is missing; pictures that are no use are noted with the reason.

        Raises:
            ValueError: If no picture is of use.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = json.dumps(self._made_with, indent=1)
        write_with(self.folder / "made_with.json", lambda file: file.write_text(settings))
        nobody = {"clip_hidden": encoder.zero_clip_hidden()}
        write_with(self.folder / "nobody.safetensors", lambda file: save_file(nobody, file))
        for caption in captions:
            path = self._path(caption)
            if not path.exists():
                tensors, metadata = _features(caption.image, encoder, vae, resolution)
                write_with(path, lambda file: save_file(tensors, file, metadata=metadata))  # noqa: B023
        if not self.usable(captions):
            reasons = {caption.image.name: self.reason(caption) for caption in captions[:5]}
            raise ValueError(f"none of {len(captions)} pictures is of use: {reasons}")

    def _path(self, caption: Caption) -> Path:
        if caption.image not in self._paths:
            name = f"{sha256_of_file(caption.image)}.safetensors"
            self._paths[caption.image] = self.folder / name
        return self._paths[caption.image]

    def reason(self, caption: Caption) -> str | None:
        """Why a picture is not used, or None."""
        with safe_open(self._path(caption), "pt") as file:
            return (file.metadata() or {}).get("refused")

    def usable(self, captions: list[Caption]) -> list[Caption]:
        """The pictures that can be trained on; the others are counted in the log."""
        found = [caption for caption in captions if self.reason(caption) is None]
        if len(found) < len(captions):
            log.warning("%d of %d pictures are not used", len(captions) - len(found), len(captions))
        return found

    def load(self, caption: Caption) -> Sample:
        """The features of one picture."""
        with safe_open(self._path(caption), "pt") as file:
            return Sample(
                caption.text,
                file.get_tensor("id_embeds"),
                file.get_tensor("clip_hidden").float(),
                file.get_tensor("moments").float(),
            )

    def nobody(self) -> Tensor:
        """CLIP tokens that stand for "no picture", (257, 1280)."""
        with safe_open(self.folder / "nobody.safetensors", "pt") as file:
            hidden: Tensor = file.get_tensor("clip_hidden")
        return hidden.float()


def _features(
    path: Path, encoder: FaceEncoder, vae: AutoencoderKL, resolution: int
) -> tuple[dict[str, Tensor], dict[str, str]]:
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    why = refusal(encoder.analyser, picture)
    if why is not None:
        log.info("%s is not used: %s", path.name, why)
        return {"refused": torch.zeros(1)}, {"refused": why}
    features = encoder.features(picture)
    tensors = {
        "id_embeds": features.id_embeds,
        "clip_hidden": features.clip_hidden,
        "moments": latent_moments(vae, training_pixels(picture, resolution)),
    }
    return tensors, {}
