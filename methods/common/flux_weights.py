"""FLUX transformer weights in the original layout, loaded into diffusers' model."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import load_file
from torch import Tensor

from idbench.methods.common.state_dicts import describe_keys

# original name -> diffusers name, one entry per module; "{i}" is the block number
_MODULES = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "double_blocks.{i}.img_mod.lin": "transformer_blocks.{i}.norm1.linear",
    "double_blocks.{i}.txt_mod.lin": "transformer_blocks.{i}.norm1_context.linear",
    "double_blocks.{i}.img_attn.proj": "transformer_blocks.{i}.attn.to_out.0",
    "double_blocks.{i}.txt_attn.proj": "transformer_blocks.{i}.attn.to_add_out",
    "double_blocks.{i}.img_mlp.0": "transformer_blocks.{i}.ff.net.0.proj",
    "double_blocks.{i}.img_mlp.2": "transformer_blocks.{i}.ff.net.2",
    "double_blocks.{i}.txt_mlp.0": "transformer_blocks.{i}.ff_context.net.0.proj",
    "double_blocks.{i}.txt_mlp.2": "transformer_blocks.{i}.ff_context.net.2",
    "single_blocks.{i}.modulation.lin": "single_transformer_blocks.{i}.norm.linear",
    "single_blocks.{i}.linear2": "single_transformer_blocks.{i}.proj_out",
    "final_layer.linear": "proj_out",
}
# original name of an RMS norm's scale -> diffusers name
_SCALES = {
    "double_blocks.{i}.img_attn.norm.query_norm": "transformer_blocks.{i}.attn.norm_q",
    "double_blocks.{i}.img_attn.norm.key_norm": "transformer_blocks.{i}.attn.norm_k",
    "double_blocks.{i}.txt_attn.norm.query_norm": "transformer_blocks.{i}.attn.norm_added_q",
    "double_blocks.{i}.txt_attn.norm.key_norm": "transformer_blocks.{i}.attn.norm_added_k",
    "single_blocks.{i}.norm.query_norm": "single_transformer_blocks.{i}.attn.norm_q",
    "single_blocks.{i}.norm.key_norm": "single_transformer_blocks.{i}.attn.norm_k",
}
# original module whose rows are several diffusers modules, in this order
_SPLITS = {
    "double_blocks.{i}.img_attn.qkv": (
        "transformer_blocks.{i}.attn.to_q",
        "transformer_blocks.{i}.attn.to_k",
        "transformer_blocks.{i}.attn.to_v",
    ),
    "double_blocks.{i}.txt_attn.qkv": (
        "transformer_blocks.{i}.attn.add_q_proj",
        "transformer_blocks.{i}.attn.add_k_proj",
        "transformer_blocks.{i}.attn.add_v_proj",
    ),
    "single_blocks.{i}.linear1": (
        "single_transformer_blocks.{i}.attn.to_q",
        "single_transformer_blocks.{i}.attn.to_k",
        "single_transformer_blocks.{i}.attn.to_v",
        "single_transformer_blocks.{i}.proj_mlp",
    ),
}
_FINAL_MODULATION = "final_layer.adaLN_modulation.1"


def to_diffusers(original: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames a FLUX state dict of the original repository to diffusers' names, at any width.

    diffusers' own converter assumes a width of 3072.

    Args:
        original: All tensors of the transformer; the width is taken from `img_in.weight`.

    Raises:
        ValueError: If a key has no place in the layout; the message names the first few.
    """
    if "img_in.weight" not in original:
        raise ValueError("not a FLUX transformer in the original layout: no key 'img_in.weight'")
    width = original["img_in.weight"].shape[0]
    converted: dict[str, Tensor] = {}
    unknown: list[str] = []
    for key, tensor in original.items():
        module, _, parameter = key.rpartition(".")
        number = re.search(r"\.(\d+)\.", key) if "_blocks." in key else None
        index = number.group(1) if number else ""
        pattern = module.replace(f".{index}.", ".{i}.", 1) if number else module

        def name(target: str, index: str = index) -> str:
            return target.replace("{i}", index)

        if pattern in _MODULES and parameter in ("weight", "bias"):
            converted[f"{name(_MODULES[pattern])}.{parameter}"] = tensor
        elif pattern in _SCALES and parameter == "scale":
            converted[f"{name(_SCALES[pattern])}.weight"] = tensor
        elif pattern in _SPLITS and parameter in ("weight", "bias"):
            targets = _SPLITS[pattern]
            # the last part of linear1 is the MLP, which is wider than the others
            sizes = [width] * (len(targets) - 1)
            parts = torch.split(tensor, [*sizes, tensor.shape[0] - sum(sizes)])
            for target, part in zip(targets, parts, strict=True):
                converted[f"{name(target)}.{parameter}"] = part.contiguous()
        elif module == _FINAL_MODULATION and parameter in ("weight", "bias"):
            # rows are (shift, scale) in the original and (scale, shift) in diffusers
            shift, scale = tensor.chunk(2)
            converted[f"norm_out.linear.{parameter}"] = torch.cat((scale, shift))
        else:
            unknown.append(key)
    if unknown:
        raise ValueError(f"keys without a place in a FLUX transformer: {describe_keys(unknown)}")
    return converted


def transformer_config(
    original: Mapping[str, Tensor], axes_dims_rope: tuple[int, int, int] = (16, 56, 56)
) -> dict[str, object]:
    """Arguments of `FluxTransformer2DModel` that fit a state dict in the original layout.

    `axes_dims_rope` cannot be read from weights; it must sum to the head width.
    """
    head_dim = original["double_blocks.0.img_attn.norm.query_norm.scale"].shape[0]
    if sum(axes_dims_rope) != head_dim:
        raise ValueError(
            f"axes_dims_rope must sum to the head width {head_dim}, got {axes_dims_rope}"
        )

    def depth(kind: str) -> int:
        return 1 + max(int(key.split(".")[1]) for key in original if key.startswith(kind))

    return {
        "patch_size": 1,
        "in_channels": original["img_in.weight"].shape[1],
        "num_layers": depth("double_blocks."),
        "num_single_layers": depth("single_blocks."),
        "attention_head_dim": head_dim,
        "num_attention_heads": original["img_in.weight"].shape[0] // head_dim,
        "joint_attention_dim": original["txt_in.weight"].shape[1],
        "pooled_projection_dim": original["vector_in.in_layer.weight"].shape[1],
        "guidance_embeds": "guidance_in.in_layer.weight" in original,
        "axes_dims_rope": axes_dims_rope,
    }


def load_transformer(path: Path, dtype: torch.dtype) -> FluxTransformer2DModel:
    """A FLUX transformer from a folder in diffusers' layout or a file in the original one.

    The file is such as `flux1-dev.safetensors` or `flux1-krea-dev.safetensors`.

    Raises:
        ValueError: If keys are missing, unknown or of the wrong shape.
    """
    if path.is_dir():
        return FluxTransformer2DModel.from_pretrained(path, dtype=dtype, local_files_only=True)
    original = load_file(path)
    with torch.device("meta"):
        model = FluxTransformer2DModel(**transformer_config(original))
    try:
        model.load_state_dict(to_diffusers(original), strict=True, assign=True)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    return model.to(dtype).eval()
