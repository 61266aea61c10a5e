"""The files of EditedID: where they come from, where they lie, and reading them strictly."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from idbench.methods.common.locations import digest
from idbench.methods.editedid.pipeline import EditedIDPipeline
from idbench.methods.editedid.scheduler import HybridDDIMDPMScheduler


class MissingWeightsError(FileNotFoundError):
    """A file of the method is not on this machine; the message says how to get it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where a file or folder comes from; `path` is its place in the weights folder."""

    path: str
    licence: str
    route: str


_SD14 = "CompVis/stable-diffusion-v1-4"
_REVISION = "133a221b8aa7292a167afc5127cb63fb5005638b"

SOURCES = {
    "base": Source(
        path="stable-diffusion-v1-4",
        licence="CreativeML OpenRAIL-M",
        route=f"hf download {_SD14} --revision {_REVISION} --local-dir {{path}} --include "
        "'unet/*.json' 'unet/diffusion_pytorch_model.safetensors' 'vae/*.json' "
        "'vae/diffusion_pytorch_model.safetensors' 'text_encoder/*.json' "
        "'text_encoder/model.safetensors' 'tokenizer/*' 'scheduler/*'",
    ),
    "farl": Source(
        path="farl/face_parsing.farl.celebm.main_ema_181500_jit.pt",
        licence="MIT",
        route="download this file of release models-v1 from github.com/FacePerceiver/facer "
        "and save it as {path}",
    ),
    "bisenet": Source(
        path="facexlib/parsing_bisenet.pth",
        licence="MIT",
        route="download this file of release v0.2.0 from github.com/xinntao/facexlib and save it "
        "as {path}",
    ),
    "insightface": Source(
        path="buffalo_l",
        licence="non-commercial research only (the weights; the library is MIT)",
        route="download buffalo_l.zip of release v0.7 from github.com/deepinsight/insightface and "
        "unpack it to {path}",
    ),
}

_NETWORKS = {"vae": AutoencoderKL, "unet": UNet2DConditionModel, "text_encoder": CLIPTextModel}
# A buffer of old CLIP checkpoints that later transformers compute instead.
_OBSOLETE = "position_ids"


def located(key: str, weights: Path, given: Path | None, parameter: str) -> Path:
    """The file or folder `key` of `SOURCES`: `given`, or its place in the weights folder.

    Raises:
        MissingWeightsError: If it is not there; the message says how to get it.
    """
    source = SOURCES[key]
    path = given or weights / source.path
    if not path.exists():
        raise MissingWeightsError(
            f"{key} is not at {path}: {source.route.format(path=path)} (licence: "
            f"{source.licence}); or say where it is with {parameter}=PATH"
        )
    return path


def load_pipeline(
    folder: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> EditedIDPipeline:
    """The pipeline from a Stable Diffusion 1.x folder in diffusers' layout; safetensors only.

    Raises:
        ValueError: If a checkpoint has keys that its network does not know, or lacks some.
        OSError: If a file is absent.
    """
    networks: dict[str, Any] = {}
    for name, kind in _NETWORKS.items():
        network, report = kind.from_pretrained(
            folder / name,
            torch_dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
        _check(folder / name, report)
        networks[name] = network.to(device)
    scheduler = HybridDDIMDPMScheduler.load_config(folder / "scheduler", local_files_only=True)
    return EditedIDPipeline(
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
        scheduler=HybridDDIMDPMScheduler.like(scheduler),
        **networks,
    )


def base_digests(folder: Path) -> dict[str, str]:
    """sha256 of the parts of a base model that can move a pixel."""
    return {part: digest(folder / part) for part in (*_NETWORKS, "tokenizer", "scheduler")}


def _check(path: Path, report: dict[str, Any]) -> None:
    faults = []
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        keys = [str(key) for key in report.get(kind, ()) if _OBSOLETE not in str(key)]
        if keys:
            faults.append(f"{kind.replace('_', ' ')}: {', '.join(sorted(keys)[:8])}")
    if faults:
        raise ValueError(f"{path}: {'; '.join(faults)}")
