"""The released files of PuLID-FLUX and EVA02-CLIP, read strictly."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from idbench.methods.common.state_dicts import describe_keys, load_strictly
from idbench.methods.pulid.attention import PerceiverAttentionCA
from idbench.methods.pulid.encoder import NUM_SCALES, IDFormer
from idbench.methods.pulid.eva import EVATower

# Head widths are fixed in the official code and cannot be read from weights.
ENCODER_DIM_HEAD = 64
CA_DIM_HEAD = 128
TOWER_DIM_HEAD = 64
PARTS = ("pulid_encoder", "pulid_ca")  # first segments of the keys; there are no others


@dataclass(frozen=True, slots=True)
class PuLIDWeights:
    """The modules of one file. `encoder` is None where a file holds `pulid_ca.*` alone."""

    encoder: IDFormer | None
    ca: list[PerceiverAttentionCA]


def group(state_dict: Mapping[str, Tensor], source: str | Path) -> dict[str, dict[str, Tensor]]:
    """Tensors by part, names without the part.

    Raises:
        ValueError: If a key starts with anything but `pulid_encoder.` or `pulid_ca.`, or there
            are no `pulid_ca.*` at all.
    """
    groups: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    unknown = []
    for key, tensor in state_dict.items():
        part, _, name = key.partition(".")
        if part in groups and name:
            groups[part][name] = tensor
        else:
            unknown.append(key)
    if unknown:
        raise ValueError(
            f"{source}: not a PuLID-FLUX file; keys must start with 'pulid_encoder.' or "
            f"'pulid_ca.', got {describe_keys(unknown)}"
        )
    if not groups["pulid_ca"]:
        raise ValueError(f"{source}: no 'pulid_ca.*' keys")
    return groups


def build_encoder(state: Mapping[str, Tensor], source: str | Path) -> IDFormer:
    """An IDFormer of the size of its weights, loaded strictly."""

    def shape(key: str) -> torch.Size:
        if key not in state:
            raise ValueError(f"{source}: missing pulid_encoder.{key}")
        return state[key].shape

    _, num_queries, dim = shape("latents")
    layers = {int(key.split(".")[1]) for key in state if key.startswith("layers.")}
    if not layers or len(layers) % NUM_SCALES:
        raise ValueError(
            f"{source}: the number of pulid_encoder.layers must be a positive multiple of "
            f"{NUM_SCALES}, got {len(layers)}"
        )
    encoder = IDFormer(
        dim=dim,
        depth=len(layers),
        dim_head=ENCODER_DIM_HEAD,
        heads=shape("layers.0.0.to_q.weight")[0] // ENCODER_DIM_HEAD,
        num_id_token=shape("id_embedding_mapping.6.weight")[0] // dim,
        num_queries=num_queries,
        output_dim=shape("proj_out")[1],
        ff_mult=shape("layers.0.1.1.weight")[0] // dim,
        id_dim=shape("id_embedding_mapping.0.weight")[1],
        hidden_dim=shape("mapping_0.0.weight")[1],
        mapping_dim=shape("mapping_0.0.weight")[0],
    )
    load_strictly(encoder, state, f"{source}: pulid_encoder")
    return encoder


def build_ca(state: Mapping[str, Tensor], source: str | Path) -> list[PerceiverAttentionCA]:
    """The cross-attention modules of a file, in order, loaded strictly.

    Raises:
        ValueError: If they are not numbered 0, 1, 2, ... or differ from the layout.
    """
    numbers = {key.partition(".")[0] for key in state}
    if numbers != {str(i) for i in range(len(numbers))}:
        raise ValueError(
            f"{source}: pulid_ca modules must be numbered 0..{len(numbers) - 1}, "
            f"got {describe_keys(numbers)}"
        )
    modules = []
    for index in range(len(numbers)):
        prefix = f"{index}."
        part = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        where = f"{source}: pulid_ca.{index}"
        for key in ("to_q.weight", "to_kv.weight"):
            if key not in part:
                raise ValueError(f"{where}: missing {key}")
        inner, dim = part["to_q.weight"].shape
        module = PerceiverAttentionCA(
            dim=dim,
            dim_head=CA_DIM_HEAD,
            heads=inner // CA_DIM_HEAD,
            kv_dim=part["to_kv.weight"].shape[1],
        )
        load_strictly(module, part, where)
        modules.append(module)
    return modules


def load_pulid(path: Path) -> PuLIDWeights:
    """Reads a file in the layout of `pulid_flux_v0.9.x.safetensors`.

    EditIDv2 files have the same layout; those that hold only `pulid_ca.*` are accepted.

    Raises:
        ValueError: If keys are missing, unknown or of the wrong shape; the message names them.
    """
    groups = group(load_file(path), path)
    encoder = build_encoder(groups["pulid_encoder"], path) if groups["pulid_encoder"] else None
    return PuLIDWeights(encoder, build_ca(groups["pulid_ca"], path))


_ROTARY = re.compile(r"(^|\.)freqs_(cos|sin)$")


def tower_state_dict(checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The image tower of an EVA-CLIP checkpoint: `visual.*` without its prefix.

    Rotary tables are left out; the tower computes them.
    """
    return {
        key.removeprefix("visual."): tensor
        for key, tensor in checkpoint.items()
        if key.startswith("visual.") and not _ROTARY.search(key)
    }


def load_tower(path: Path) -> EVATower:
    """Reads the image tower from a whole EVA-CLIP checkpoint (`EVA02_CLIP_L_336_psz14_s6B.pt`).

    Raises:
        ValueError: If there is no image tower or its keys differ from EVA02-CLIP's.
    """
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    for wrapper in ("state_dict", "module", "model"):
        if wrapper in checkpoint:
            checkpoint = checkpoint[wrapper]
            break
    state = tower_state_dict(checkpoint)
    for key in ("patch_embed.proj.weight", "pos_embed", "blocks.0.mlp.w1.weight", "head.weight"):
        if key not in state:
            raise ValueError(f"{path}: not an EVA02-CLIP checkpoint, no key visual.{key}")
    dim, _, patch_size, _ = state["patch_embed.proj.weight"].shape
    grid = round((state["pos_embed"].shape[1] - 1) ** 0.5)
    tower = EVATower(
        image_size=grid * patch_size,
        patch_size=patch_size,
        dim=dim,
        depth=1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks.")),
        heads=dim // TOWER_DIM_HEAD,
        mlp_width=state["blocks.0.mlp.w1.weight"].shape[0],
        output_dim=state["head.weight"].shape[0],
    )
    load_strictly(tower, state, path)
    return tower
