"""What the frozen networks make of the training pairs, computed once and kept on disk."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from idbench.methods.common.files import sha256_of_file, write_with
from idbench.methods.common.flux_backbone import FluxBackbone
from idbench.methods.editidv2.data import Pair, target_pixels
from idbench.methods.pulid.encoder import IDFormer
from idbench.methods.pulid.extraction import IDExtractor
from idbench.methods.pulid.faces import NoFaceError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class PairFeatures:
    """Features of one pair.

    `mean` and `std` [channels, h, w] are the VAE's posterior; a training step draws from it.
    `prompt_embeds` [tokens, width] and `pooled_prompt_embeds` [width] are the caption's;
    `identity_tokens` [32, 2048] and `arcface` [512] the reference photo's.
    """

    mean: Tensor
    std: Tensor
    prompt_embeds: Tensor
    pooled_prompt_embeds: Tensor
    identity_tokens: Tensor
    arcface: Tensor


class FeatureCache:
    """Features in a folder, one file per pair, named by what they were made of.

    Args:
        folder: Created on the first write.
        made_with: What the features depend on besides the pair: settings and digests of networks.
    """

    def __init__(self, folder: Path, made_with: Mapping[str, str]) -> None:
        """Nothing is read yet."""
        self.folder = folder
        self._made_with = json.dumps(dict(made_with), sort_keys=True)
        self._digests: dict[Path, str] = {}

    def path(self, pair: Pair) -> Path:
        """The file of a pair; the same pictures and words have the same file."""
        parts = [self._made_with, self._digest(pair.id_image), self._digest(pair.image), pair.text]
        return self.folder / f"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}.safetensors"

    def empty_text(self) -> Path:
        """The file of the empty caption."""
        name = hashlib.sha256(self._made_with.encode()).hexdigest()
        return self.folder / f"empty-{name}.safetensors"

    def load(self, pair: Pair) -> PairFeatures:
        """Features of a pair that `complete` has seen."""
        return PairFeatures(**load_file(self.path(pair)))

    def load_empty_text(self) -> tuple[Tensor, Tensor]:
        """Text features of the empty caption."""
        tensors = load_file(self.empty_text())
        return tensors["prompt_embeds"], tensors["pooled_prompt_embeds"]

    def usable(self, pairs: Sequence[Pair]) -> list[Pair]:
        """The pairs whose reference shows a face.

        Raises:
            ValueError: If there are none.
        """
        found = [pair for pair in pairs if self.path(pair).is_file()]
        if not found:
            raise ValueError(f"none of the {len(pairs)} reference photos shows a usable face")
        if len(found) < len(pairs):
            log.warning("%d of %d pairs have no usable face", len(pairs) - len(found), len(pairs))
        return found

    def missing(self, pairs: Sequence[Pair]) -> list[Pair]:
        """The pairs of which nothing is known yet."""
        return [
            pair
            for pair in pairs
            if not self.path(pair).is_file() and not self._refused(pair).is_file()
        ]

    def _refused(self, pair: Pair) -> Path:
        return self.path(pair).with_suffix(".no-face.txt")

    def _digest(self, path: Path) -> str:
        if path not in self._digests:
            self._digests[path] = sha256_of_file(path)
        return self._digests[path]

    @torch.no_grad()
    def complete(
        self,
        pairs: Sequence[Pair],
        backbone: FluxBackbone,
        extractor: IDExtractor,
        encoder: IDFormer,
        size: int,
    ) -> None:
        """Computes what is missing. A pair whose reference shows no face is noted as such."""
        if not self.empty_text().is_file():
            self._write(self.empty_text(), _text_features(backbone, ""))
        for pair in self.missing(pairs):
            try:
                with Image.open(pair.id_image) as photo:
                    identity = extractor(photo)
            except NoFaceError as error:
                self._note(self._refused(pair), f"{pair.id_image}: {error}\n")
                continue
            like = encoder.latents
            hidden = [scale.to(like) for scale in identity.vit_hidden]
            tokens = encoder(identity.id_cond.to(like), hidden)
            with Image.open(pair.image) as image:
                pixels = target_pixels(image, size)[None].to(backbone.device, torch.float32)
            vae = backbone.pipe.vae
            posterior = vae.encode(pixels.to(vae.dtype)).latent_dist
            self._write(
                self.path(pair),
                {
                    "mean": posterior.mean[0].float(),
                    "std": posterior.std[0].float(),
                    "identity_tokens": tokens[0].float(),
                    "arcface": torch.from_numpy(identity.arcface),
                    **_text_features(backbone, pair.text),
                },
            )

    def _note(self, path: Path, reason: str) -> None:
        write_with(path, lambda file: file.write_text(reason))

    def _write(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        stored = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        write_with(path, lambda file: save_file(stored, file))


def _text_features(backbone: FluxBackbone, text: str) -> dict[str, Tensor]:
    prompt_embeds, pooled = backbone.encode_prompt([text])
    return {"prompt_embeds": prompt_embeds[0], "pooled_prompt_embeds": pooled[0]}
