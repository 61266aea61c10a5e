"""Random weights of the true architectures, in the published formats.

For measurements of speed where the released files are not there. Scores from them mean nothing.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import Dinov2Config, Dinov2Model

from idbench.metrics.extractors.aesthetic import AestheticLinear
from idbench.metrics.extractors.clip_network import CONFIG_FILE
from idbench.metrics.extractors.fer_vgg19 import FerVGG19
from idbench.metrics.extractors.hopenet import HopenetModule
from idbench.metrics.extractors.inception import FidInception
from idbench.metrics.extractors.insightface import FILES
from idbench.metrics.extractors.onnx_graphs import (
    save_iresnet100,
    save_landmarks,
    save_scrfd,
)
from idbench.metrics.extractors.onnx_network import OnnxNetwork
from idbench.metrics.extractors.scrfd import letterbox
from idbench.metrics.weights import WeightStore

CLIP_ARCHITECTURE = "ViT-L-14-quickgelu"


def random_state(build: Callable[[], nn.Module], seed: int = 0) -> dict[str, Tensor]:
    """A state dict of a module that keeps activations in range, without its slow initialisation."""
    with torch.device("meta"):
        module = build()
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point():
            state[name] = torch.zeros(tensor.shape, dtype=tensor.dtype)
        elif tensor.ndim >= 2:
            spread = (2 / max(tensor[0].numel(), 1)) ** 0.5
            state[name] = torch.randn(tensor.shape, generator=generator) * spread
        else:
            ones = name.endswith(("weight", "running_var", "lambda1"))
            state[name] = torch.full(tensor.shape, 1.0 if ones else 0.0)
    return state


def random_store(
    folder: Path, picture: NDArray[np.uint8], tiny: bool = False
) -> tuple[WeightStore, tuple[str, ...]]:
    """A store of random networks for IBench's metrics, written to `folder`.

    Args:
        folder: An empty folder; about two gigabytes, or a few megabytes if `tiny`.
        picture: A picture on which the random detector is made to find one face.
        tiny: Reduced networks, to try the measurement itself.

    Returns:
        The store, and the keys that it has.
    """
    folder.mkdir(parents=True, exist_ok=True)
    overrides: dict[str, Path] = {}
    for key, write in _writers(tiny).items():
        overrides[key] = write(folder / key)
    pack = folder / "antelopev2"
    overrides["antelopev2"] = _insightface(pack, picture, tiny)
    return WeightStore(folder / "none", overrides=overrides), tuple(overrides)


def _writers(tiny: bool) -> Mapping[str, Callable[[Path], Path]]:
    def saved(state: object, path: Path) -> Path:
        torch.save(state, path)
        return path

    def dinov2(path: Path) -> Path:
        sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = Dinov2Config(image_size=518, patch_size=14, **(sizes if tiny else {}))
        path.mkdir(exist_ok=True)
        config.to_json_file(path / "config.json")
        save_file(random_state(lambda: Dinov2Model(config)), path / "model.safetensors")
        return path

    writers: dict[str, Callable[[Path], Path]] = {
        "hopenet": lambda path: saved(random_state(HopenetModule), path),
        "fer_vgg19": lambda path: saved({"net": random_state(FerVGG19)}, path),
        "inception": lambda path: saved(random_state(FidInception), path),
        "aes_linear": lambda path: saved(random_state(AestheticLinear), path),
        "clip_l14": lambda path: _clip(path, tiny),
        "dinov2_base": dinov2,
    }
    try:
        from pyiqa.archs.musiq_arch import MUSIQ
    except ModuleNotFoundError:
        return writers
    writers["musiq_spaq"] = lambda path: saved(random_state(lambda: MUSIQ(pretrained=False)), path)
    return writers


def _clip(path: Path, tiny: bool) -> Path:
    config = dict(open_clip.get_model_config(CLIP_ARCHITECTURE) or {})
    if tiny:
        config["vision_cfg"] = {"image_size": 224, "layers": 1, "width": 64, "patch_size": 56}
        config["text_cfg"] = {**config["text_cfg"], "layers": 1, "width": 64, "heads": 1}
    path.mkdir(exist_ok=True)
    (path / CONFIG_FILE).write_text(json.dumps({"model_cfg": config}), "utf-8")
    state = random_state(lambda: open_clip.CLIP(**config))
    file = path / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, file)
    return file


def _insightface(folder: Path, picture: NDArray[np.uint8], tiny: bool) -> Path:
    detector, recogniser, points = FILES["antelopev2"]
    folder.mkdir(exist_ok=True)
    if tiny:
        save_iresnet100(folder / recogniser, depths=(1, 1, 1, 1), width=8)
        save_landmarks(folder / points, depths=(1, 1, 1, 1), width=8)
    else:
        save_iresnet100(folder / recogniser)
        save_landmarks(folder / points)
    base = 14 if tiny else 56
    save_scrfd(folder / detector, base=base)
    # The bias between the highest and the second highest logit leaves one face.
    square, _ = letterbox(picture, 640)
    pixels = (square.astype(np.float32).transpose(2, 0, 1)[None] - 127.5) / np.float32(128)
    scores = np.concatenate(
        [output.ravel() for output in OnnxNetwork(folder / detector).run(pixels)[:3]]
    ).astype(np.float64)
    highest = np.clip(np.sort(scores)[-2:], 1e-6, 1 - 1e-6)
    bias = -float(np.log(highest / (1 - highest)).mean())
    save_scrfd(folder / detector, base=base, score_bias=bias)
    for name in ("2d106det.onnx", "genderage.onnx"):
        (folder / name).touch()  # IBench's metrics read neither
    return folder
