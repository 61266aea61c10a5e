"""DreamSim: an embedding whose cosine distance follows human judgements of image similarity.

Fu et al. (arXiv 2306.09344), the ensemble of ssundaram21/dreamsim v0.2: DINO, CLIP and OpenCLIP
ViT-B/16 with low-rank updates of their attention, merged here into the weights.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the name everyone knows)
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from idbench.metrics.extractors.checkpoint import CheckpointError, load_strictly, read_pickle
from idbench.metrics.extractors.image_network import ImageNetwork
from idbench.metrics.extractors.network import Network
from idbench.metrics.extractors.preprocess import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    normalised,
    stretched,
    to_unit,
)
from idbench.metrics.weights import WeightStore

SIDE = 224
HEAD_WIDTH = 64
# The order of the ensemble, and of the keys of the low-rank updates.
TOWERS = ("dino", "clip", "open_clip")


class _QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class DreamSimModule(nn.Module):
    """Three image towers and the concatenation of what they say.

    DINO gives the class token of its last block, before the final norm; CLIP and OpenCLIP their
    projected embeddings.
    """

    def __init__(self, towers: Mapping[str, nn.Module], projections: Mapping[str, Tensor]) -> None:
        """Joins towers that yield a class token each; CLIP's are projected."""
        super().__init__()
        self.towers = nn.ModuleDict(dict(towers))
        for name, projection in projections.items():
            self.register_buffer(f"projection_{name}", projection)

    def forward(self, images: Tensor) -> Tensor:
        """Unit embeddings `batch d` of `batch 3 224 224` in [0, 1]."""
        imagenet = normalised(images, IMAGENET_MEAN, IMAGENET_STD)
        clip = normalised(images, CLIP_MEAN, CLIP_STD)
        parts = [
            self.towers["dino"](imagenet),
            self.towers["clip"](clip) @ self.get_buffer("projection_clip"),
            self.towers["open_clip"](clip) @ self.get_buffer("projection_open_clip"),
        ]
        joined = torch.cat(parts, dim=1)
        return F.normalize(joined - joined.mean(dim=1, keepdim=True), dim=1)


def vision_transformer(state: Mapping[str, Tensor], path: Path, *, eps: float) -> VisionTransformer:
    """A transformer in the shape of a state dict with DINO's keys.

    Raises:
        CheckpointError: If it is no such state dict.
    """
    try:
        width, _, _, patch = state["patch_embed.proj.weight"].shape
        tokens = state["pos_embed"].shape[1] - 1
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is no state dict of a DINO-like transformer") from error
    module = VisionTransformer(
        img_size=round(tokens**0.5) * patch,
        patch_size=patch,
        embed_dim=width,
        depth=len({key.split(".")[1] for key in state if key.startswith("blocks.")}),
        num_heads=width // HEAD_WIDTH,
        num_classes=0,
        global_pool="token",
    )
    if "pos_drop.weight" in state:
        # DreamSim keeps CLIP's norm before the first block where DINO has a dropout.
        module.pos_drop = nn.LayerNorm(width)  # type: ignore[assignment]
    for part in module.modules():
        if isinstance(part, nn.LayerNorm):
            part.eps = eps
    return module


def with_low_rank_updates(
    state: Mapping[str, Tensor], adapter: Mapping[str, Tensor], index: int, scale: float
) -> dict[str, Tensor]:
    """A tower's weights plus `scale * B @ A` for every update of tower number `index`.

    Raises:
        CheckpointError: If an update has no weight to go to.
    """
    prefix = f"base_model.model.extractor_list.{index}.model."
    merged = dict(state)
    for key, down in adapter.items():
        if not key.startswith(prefix) or not key.endswith(".lora_A.weight"):
            continue
        target = f"{key.removeprefix(prefix).removesuffix('.lora_A.weight')}.weight"
        if target not in merged:
            raise CheckpointError(f"the low-rank update {key} has no weight {target}")
        up = adapter[key.replace(".lora_A.", ".lora_B.")]
        merged[target] = merged[target] + scale * (up @ down)
    return merged


def load_dreamsim(folder: Path, dino: Path) -> nn.Module:
    """The ensemble with its published weights.

    Args:
        folder: The unpacked files of `dreamsim_ensemble_checkpoint.zip`.
        dino: `dino_vitbase16_pretrain.pth`, which the archive does not hold.

    Raises:
        CheckpointError: If a file is not what it should be.
    """
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    adapter = load_file(folder / "adapter_model.safetensors")
    scale = config["lora_alpha"] / config["r"]
    towers: dict[str, nn.Module] = {}
    projections: dict[str, Tensor] = {}
    for index, name in enumerate(TOWERS):
        path = dino if name == "dino" else folder / f"{name}_vitb16_pretrain.pth.tar"
        saved = read_pickle(path)
        state: dict[str, Tensor] = dict(saved if name == "dino" else saved["state_dict"])
        if name != "dino":
            projections[name] = state.pop("proj")
        state = with_low_rank_updates(state, adapter, index, scale)
        tower = vision_transformer(state, path, eps=1e-6 if name == "dino" else 1e-5)
        if name == "clip":
            for block in tower.blocks:
                block.get_submodule("mlp").act = _QuickGELU()
        load_strictly(tower, state, path)
        if name == "dino":
            tower.norm = nn.Identity()
        towers[name] = tower
    return DreamSimModule(towers, projections)


def dreamsim_input(image: NDArray[np.uint8]) -> Tensor:
    """The image as the ensemble takes it: 224 x 224 stretched, Pillow bicubic, in [0, 1]."""
    return to_unit(stretched(image, SIDE, Image.Resampling.BICUBIC))


def dreamsim(
    store: WeightStore,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    batch_size: int | None = None,
) -> ImageNetwork:
    """The extractor `dreamsim`: `output` (d,), of unit length.

    Raises:
        MissingWeightsError: If a file is absent.
    """
    folder = store.locate("dreamsim", "adapter_config.json").parent
    dino = store.locate("dino_vitb16")
    return ImageNetwork(
        name="dreamsim",
        version=1,
        weights=store.digests("dreamsim") | store.digests("dino_vitb16"),
        network=Network(
            lambda: load_dreamsim(folder, dino), device=device, dtype=dtype, batch_size=batch_size
        ),
        prepare=dreamsim_input,
        preprocessing="224 bicubic (pil), stretched",
    )
