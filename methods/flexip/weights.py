"""The files that FlexIP needs: where they come from and where they lie."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from idbench.methods.common.locations import digest
from idbench.methods.common.weight_sources import (
    CLIP_VIT_H,
    STABLE_DIFFUSION_1_5,
    MissingWeightsError,
    Source,
    how_to_get,
)

SOURCES: dict[str, Source] = {
    "base": STABLE_DIFFUSION_1_5,
    "clip": CLIP_VIT_H,
    "dino": Source(
        path="dinov2-large",
        repository="https://huggingface.co/facebook/dinov2-large",
        revision="47b73eefe95e8d44ec3623f8890bd894b6ea2d6c",
        licence="Apache-2.0",
        route="hf download facebook/dinov2-large --revision "
        "47b73eefe95e8d44ec3623f8890bd894b6ea2d6c --local-dir {path} --include config.json "
        "model.safetensors",
        sha256={
            "model.safetensors": "399fba97a95f22c36834418bc69373364a99af3a1153da1c0fb31db567c92e23"
        },
    ),
    "adapter": Source(
        path="flexip",
        repository="none",
        revision="none",
        licence="that of whoever trained it",
        route="the authors published no weights; train an adapter with `idbench train flexip "
        "CONFIG.yaml`, or download somebody's to {path}",
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class FlexIPFiles:
    """Where the folders are. `dino` is read only where patches come from DINOv2."""

    base: Path
    clip: Path
    dino: Path
    adapter: Path

    @classmethod
    def in_folder(cls, weights: Path, **chosen: Path | None) -> "FlexIPFiles":
        """The places under a weights folder, except for those in `chosen`."""
        places = {key: weights / source.path for key, source in SOURCES.items()}
        places |= {key: Path(path) for key, path in chosen.items() if path is not None}
        return cls(**places)

    def require(self, *keys: str) -> None:
        """Checks that folders are there.

        Raises:
            MissingWeightsError: If one is not; the message names it and says how to get it.
        """
        for key in keys:
            path: Path = getattr(self, key)
            if not path.exists():
                names = ["weights", *(entry.name for entry in fields(self))]
                raise MissingWeightsError(how_to_get(key, path, SOURCES[key], names))

    def digests(self, keys: Iterable[str]) -> dict[str, str]:
        """sha256 of the contents of the folders behind `keys`."""
        parts = {"base": ("unet", "vae", "text_encoder", "tokenizer")}
        return {
            f"{key}/{part}" if part else key: digest(getattr(self, key) / part)
            for key in keys
            for part in parts.get(key, ("",))
        }
