"""Identity tokens and text features of the reconfiguration stage, one file per identity.

The official cache holds tokens alone and says nothing about the encoder that made them; this one
names its encoder, and training refuses tokens of another.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from idbench.methods.common.files import write_with
from idbench.methods.common.prompt_encoder import PromptEncoder
from idbench.methods.dynamicid.encoder import FaceEncoder
from idbench.methods.dynamicid.faces import NoFaceError
from idbench.methods.dynamicid.variface import Identity, Portrait

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CachedIdentity:
    """An identity's usable pictures with their tokens (k, 4, width) and text features (k, width).

    Both are float32. Pictures in which no face was found are left out.
    """

    name: str
    portraits: tuple[Portrait, ...]
    tokens: Tensor
    texts: Tensor


class TokenCache:
    """Cache files of one data set in a folder; `encoder_digest` is the encoder that makes them."""

    def __init__(self, folder: Path, encoder_digest: str) -> None:
        """Nothing is read yet."""
        self.folder = folder
        self.encoder_digest = encoder_digest

    def build(
        self, identities: Sequence[Identity], encoder: FaceEncoder, prompts: PromptEncoder
    ) -> None:
        """Writes the files that are missing.

        Raises:
            ValueError: If a file there was made by another encoder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for identity in identities:
            path = self._path(identity)
            if path.exists():
                self._check(path, identity)
                continue
            tensors, names = _encode(identity, encoder, prompts)
            metadata = {
                "encoder": self.encoder_digest,
                "names": json.dumps(names),
                "prompts": json.dumps([portrait.prompt for portrait in identity.portraits]),
            }
            write_with(path, lambda file: save_file(tensors, file, metadata=metadata))  # noqa: B023

    def load(self, identity: Identity) -> CachedIdentity:
        """One identity.

        Raises:
            ValueError: If its file was made by another encoder or of other pictures or prompts.
            FileNotFoundError: If it has none.
        """
        path = self._path(identity)
        self._check(path, identity)
        with safe_open(path, "pt") as file:
            tokens, texts, valid = (file.get_tensor(key) for key in ("tokens", "texts", "valid"))
        keep = valid.bool()
        portraits = tuple(p for p, ok in zip(identity.portraits, keep.tolist(), strict=True) if ok)
        return CachedIdentity(identity.name, portraits, tokens[keep], texts[keep])

    def usable(self, identities: Sequence[Identity]) -> list[Identity]:
        """The identities with at least two pictures that show a face.

        Raises:
            ValueError: If there is none.
        """
        found = [one for one in identities if len(self.load(one).portraits) >= 2]
        if not found:
            raise ValueError(f"{self.folder}: no identity has two pictures with a face")
        if len(found) < len(identities):
            log.warning("%d identities have too few faces", len(identities) - len(found))
        return found

    def _path(self, identity: Identity) -> Path:
        return self.folder / f"{identity.name}.safetensors"

    def _check(self, path: Path, identity: Identity) -> None:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        if metadata.get("encoder") != self.encoder_digest:
            raise ValueError(
                f"{path}: made by another face encoder ({metadata.get('encoder')}, now "
                f"{self.encoder_digest}); delete the cache or choose another folder"
            )
        names = [portrait.image.name for portrait in identity.portraits]
        prompts = [portrait.prompt for portrait in identity.portraits]
        if (metadata.get("names"), metadata.get("prompts")) != (
            json.dumps(names),
            json.dumps(prompts),
        ):
            raise ValueError(
                f"{path}: made of other pictures or prompts of {identity.name!r}; delete it"
            )


@torch.no_grad()
def _encode(
    identity: Identity, encoder: FaceEncoder, prompts: PromptEncoder
) -> tuple[dict[str, Tensor], list[str]]:
    tokens, valid = [], []
    config = encoder.projection.config
    for portrait in identity.portraits:
        with Image.open(portrait.image) as opened:
            picture = opened.convert("RGB")
        try:
            tokens.append(encoder.tokens(encoder.features(picture))[0].float().cpu())
            valid.append(True)
        except NoFaceError:
            log.warning("no face in %s", portrait.image)
            tokens.append(torch.zeros(config.num_tokens, config.cross_attention_dim))
            valid.append(False)
    texts = [prompts.features([portrait.prompt])[0].cpu() for portrait in identity.portraits]
    tensors = {
        "tokens": torch.stack(tokens),
        "texts": torch.stack(texts),
        "valid": torch.tensor(valid, dtype=torch.uint8),
    }
    return tensors, [portrait.image.name for portrait in identity.portraits]
