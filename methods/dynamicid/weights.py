"""The files that DynamicID needs: where they come from and where they lie."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

from idbench.methods.common.weight_sources import (
    CLIP_VIT_H,
    STABLE_DIFFUSION_1_5,
    MissingWeightsError,
    Source,
    how_to_get,
)

SOURCES: dict[str, Source] = {
    "base": STABLE_DIFFUSION_1_5,
    "clip_vision": CLIP_VIT_H,
    "face_models": Source(
        path="buffalo_l",
        repository="https://github.com/deepinsight/insightface/releases/tag/v0.7",
        revision="v0.7",
        licence="non-commercial research only (the weights; the library is MIT)",
        route="download buffalo_l.zip from {repository} and unpack it to {path}",
        sha256={
            "buffalo_l.zip": "80ffe37d8a5940d59a7384c201a2a38d4741f2f3c51eef46ebb28218a7b0ca2f",
            "1k3d68.onnx": "df5c06b8a0c12e422b2ed8947b8869faa4105387f199c477af038aa01f9a45cc",
            "2d106det.onnx": "f001b856447c413801ef5c42091ed0cd516fcd21f2d6b79635b1e733a7109dbf",
            "det_10g.onnx": "5838f7fe053675b1c7a08b633df49e7af5495cee0493c7dcf6697200b85b5b91",
            "w600k_r50.onnx": "4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43",
        },
    ),
    "saa": Source(
        path="dynamicid/SAA.bin",
        repository="https://huggingface.co/meteorite2023/DynamicID",
        revision="main",
        licence="not stated",
        route="hf download meteorite2023/DynamicID SAA.bin --local-dir {folder}",
    ),
    "imr": Source(
        path="dynamicid/IMR.bin",
        repository="https://huggingface.co/meteorite2023/DynamicID",
        revision="main",
        licence="not stated",
        route="hf download meteorite2023/DynamicID IMR.bin --local-dir {folder}",
    ),
    "keypoints": Source(
        path="dynamicid/key_point_encoder.bin",
        repository="https://huggingface.co/meteorite2023/DynamicID",
        revision="main",
        licence="not stated",
        route="hf download meteorite2023/DynamicID key_point_encoder.bin --local-dir {folder}",
    ),
    "expression": Source(
        path="resemotenet/best_model.pth",
        repository="https://drive.google.com/drive/folders/1Daxa6d1-XFxxpg6dyxYl4V-anfiHwtqK",
        revision="ArnabKumarRoy02/ResEmoteNet, FER2013",
        licence="MIT",
        route="download the FER2013 checkpoint in a browser from {repository} and save it as "
        "{path}; or set source_expression=neutral, which needs no classifier",
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class DynamicIDFiles:
    """Where the files are. `imr`, `keypoints` and `expression` are read only where needed."""

    base: Path
    clip_vision: Path
    face_models: Path
    saa: Path
    imr: Path
    keypoints: Path
    expression: Path

    @classmethod
    def in_folder(cls, weights: Path, **chosen: Path | None) -> "DynamicIDFiles":
        """The places under a weights folder, except for those in `chosen`.

        The key point encoder is looked for beside the IMR, under the names that the official
        pipeline and trainer give it.
        """
        places = {key: weights / source.path for key, source in SOURCES.items()}
        places |= {key: Path(path) for key, path in chosen.items() if path is not None}
        files = cls(**places)
        if chosen.get("keypoints") is None:
            files = replace(files, keypoints=keypoint_file(files.imr))
        return files

    def require(self, *keys: str) -> None:
        """Checks that files are there.

        Raises:
            MissingWeightsError: If one is not; the message names it and says how to get it.
        """
        for key in keys:
            path: Path = getattr(self, key)
            if not path.exists():
                names = ["weights", *(entry.name for entry in fields(self))]
                raise MissingWeightsError(how_to_get(key, path, SOURCES[key], names))

    def digested(self, keys: Iterable[str]) -> dict[str, Path]:
        """The files behind `keys` whose bytes move pixels, by name: weights and their settings."""
        found: dict[str, Path] = {}
        for key in keys:
            path: Path = getattr(self, key)
            inside = sorted(entry for entry in path.rglob("*") if entry.suffix in _DIGESTED)
            for file in inside if path.is_dir() else [path]:
                name = key if file == path else f"{key}/{file.relative_to(path).as_posix()}"
                found[name] = file
        return found


_DIGESTED = {".safetensors", ".bin", ".onnx", ".json", ".txt"}


def keypoint_file(imr: Path) -> Path:
    """The key point encoder that belongs to an IMR file.

    The official pipeline replaces "IMR" in the name by "key_point_encoder", its trainer saves
    "keypoint_encoder"; the first of the two that exists, else the first.
    """
    names = [imr.name.replace("IMR", word) for word in ("key_point_encoder", "keypoint_encoder")]
    if names[0] == imr.name:
        names = [f"{word}{imr.suffix}" for word in ("key_point_encoder", "keypoint_encoder")]
    candidates = [imr.with_name(name) for name in names]
    return next((path for path in candidates if path.exists()), candidates[0])
