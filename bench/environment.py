"""Where a run was made: versions and device, and nothing that is private."""

import importlib.metadata
import platform
from collections.abc import Iterable
from typing import Any

import idbench

# The libraries whose version can move a number or a pixel.
LIBRARIES = (
    "diffusers", "dlib-bin", "face_recognition_models", "insightface", "mtcnn", "numpy",
    "onnxruntime", "open_clip_torch", "pandas", "pillow", "scikit-image", "scipy", "torch",
    "torchvision", "transformers",
)  # fmt: skip


def installed_version(distribution: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def device_name(device: str) -> str:
    """What a device is called by its maker; imports torch only for accelerators.

    One that is not in this machine, such as those of a cluster, keeps the name it has here.
    """
    if device.partition(":")[0] == "cpu":
        return platform.processor() or platform.machine()
    if not device.startswith("cuda"):
        return device
    import torch

    return str(torch.cuda.get_device_name(device)) if torch.cuda.is_available() else device


def environment(device: str) -> dict[str, Any]:
    """Versions and device as they go into `run.json`."""
    return {
        "idbench": idbench.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device,
        "device_name": device_name(device),
        "libraries": {name: version for name in LIBRARIES if (version := installed_version(name))},
    }


# What each extra brings, by the distribution that shows it is there.
EXTRAS = {
    "embedded": (
        "dlib-bin", "face_recognition_models", "insightface", "mtcnn", "scikit-image", "torch",
    ),
    "metrics": ("open_clip_torch", "onnxruntime", "timm", "transformers", "torch"),
    "iqa": ("pyiqa",),
    "methods": ("accelerate", "diffusers", "einops", "facexlib", "safetensors", "transformers"),
    "comfyui": ("websockets",),
    "ray": ("ray",),
}  # fmt: skip


def missing_extras(extras: Iterable[str]) -> list[str]:
    """What to install for `extras`, one line per extra that is not complete here."""
    lines = []
    for extra in extras:
        absent = [name for name in EXTRAS[extra] if installed_version(name) is None]
        if absent:
            lines.append(f"{', '.join(absent)}; pip install 'idbench[{extra}]'")
    return lines
