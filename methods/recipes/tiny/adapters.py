"""IP-Adapter files in the layouts of h94/IP-Adapter, h94/IP-Adapter-FaceID and XLabs-AI."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

CLIP_WIDTH, CLIP_PROJECTION, CLIP_SIDE = 32, 24, 28
FACE_WIDTH = 512
DIM_HEAD = 64  # diffusers counts heads by it
DEPTH = 4  # diffusers builds resamplers of four layers
RANK = 4

State = dict[str, Tensor]


def write_clip_vision(folder: Path) -> None:
    """The image half of CLIP with its projection; 28 pixels, 4 patches."""
    config = CLIPVisionConfig(
        hidden_size=CLIP_WIDTH,
        projection_dim=CLIP_PROJECTION,
        image_size=CLIP_SIDE,
        patch_size=14,
        intermediate_size=CLIP_WIDTH,
        num_hidden_layers=3,
        num_attention_heads=2,
    )
    CLIPVisionModelWithProjection(config).save_pretrained(folder)


def write_ip_adapter(path: Path, network: Any, kind: str) -> None:
    """An adapter for a UNet.

    `kind` is "plain", "plus", "instantid", "faceid" or "faceid_plus"; the last two come with LoRA
    layers, the last three as a pickle, as the released files do.
    """
    width = network.config.cross_attention_dim
    projections = {
        "plain": _plain(width),
        "plus": _resampler(width, CLIP_WIDTH),
        "instantid": _resampler(width, FACE_WIDTH),
        "faceid": _face(width),
        "faceid_plus": {**_face(width), **_face_resampler(width)},
    }
    layers = dict(_layers(network, lora=kind.startswith("faceid")))
    groups = {"image_proj": projections[kind], "ip_adapter": layers}
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        flat = {
            f"{group}.{key}": value for group, part in groups.items() for key, value in part.items()
        }
        save_file(flat, path)
    else:
        torch.save(groups, path)


def write_flux_ip_adapter(path: Path, width: int, text_width: int, blocks: int) -> None:
    """XLabs' layout, for a transformer of `blocks` double blocks."""
    state = {f"ip_adapter_proj_model.{key}": value for key, value in _plain(text_width).items()}
    for block in range(blocks):
        for side in "kv":
            name = f"double_blocks.{block}.processor.ip_adapter_double_stream_{side}_proj"
            state[f"{name}.weight"] = random(width, text_width)
            state[f"{name}.bias"] = random(width)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path)


def write_resampler(path: Path, width: int) -> None:
    """InfiniteYou's, of a face embedding to tokens as wide as FLUX's text, in a pickle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"image_proj": _resampler(width, FACE_WIDTH)}, path)


def random(*shape: int) -> Tensor:
    """Normal numbers, smaller where there are many inputs."""
    return torch.randn(shape) / math.sqrt(shape[-1])


def norm(name: str, width: int) -> State:
    """A layer norm."""
    return {f"{name}.weight": 1 + 0.1 * torch.randn(width), f"{name}.bias": random(width)}


def linear(name: str, outputs: int, inputs: int, *, bias: bool = True) -> State:
    """A linear layer."""
    state = {f"{name}.weight": random(outputs, inputs)}
    return {**state, f"{name}.bias": random(outputs)} if bias else state


def _plain(width: int) -> State:
    return {**linear("proj", 4 * width, CLIP_PROJECTION), **norm("norm", width)}


def _resampler(width: int, inputs: int) -> State:
    """Sixteen queries of one head."""
    return {
        "latents": random(1, 16, DIM_HEAD),
        **linear("proj_in", DIM_HEAD, inputs),
        **linear("proj_out", width, DIM_HEAD),
        **norm("norm_out", width),
        **dict(perceiver_layers("layers", DIM_HEAD, 1)),
    }


def _face(width: int) -> State:
    return {
        **linear("proj.0", 2 * FACE_WIDTH, FACE_WIDTH),
        **linear("proj.2", 4 * width, 2 * FACE_WIDTH),
        **norm("norm", width),
    }


def _face_resampler(width: int) -> State:
    name = "perceiver_resampler"
    return {
        **linear(f"{name}.proj_in", width, CLIP_WIDTH),
        **linear(f"{name}.proj_out", width, width),
        **norm(f"{name}.norm_out", width),
        **dict(perceiver_layers(f"{name}.layers", width, width // DIM_HEAD)),
    }


def perceiver_layers(
    name: str, width: int, heads: int, *, head_width: int = DIM_HEAD, depth: int = DEPTH
) -> Iterator[tuple[str, Tensor]]:
    """Attention to patches and a feed-forward layer, `depth` times."""
    inner = heads * head_width
    for layer in range(depth):
        attention, forward = f"{name}.{layer}.0", f"{name}.{layer}.1"
        yield from {
            **norm(f"{attention}.norm1", width),
            **norm(f"{attention}.norm2", width),
            **linear(f"{attention}.to_q", inner, width, bias=False),
            **linear(f"{attention}.to_kv", 2 * inner, width, bias=False),
            **linear(f"{attention}.to_out", width, inner, bias=False),
            **norm(f"{forward}.0", width),
            **linear(f"{forward}.1", 4 * width, width, bias=False),
            **linear(f"{forward}.3", width, 4 * width, bias=False),
        }.items()


def _layers(network: Any, *, lora: bool) -> Iterator[tuple[str, Tensor]]:
    """Layers are numbered over all attentions; those to text have odd numbers."""
    text = network.config.cross_attention_dim
    for number, name in enumerate(network.attn_processors):
        attention = network.get_submodule(name.removesuffix(".processor"))
        inner = attention.to_q.weight.shape[0]
        if "attn2" in name:
            yield f"{number}.to_k_ip.weight", random(inner, text)
            yield f"{number}.to_v_ip.weight", random(inner, text)
        if not lora:
            continue
        for part in ("q", "k", "v", "out"):
            linear = attention.to_out[0] if part == "out" else getattr(attention, f"to_{part}")
            outputs, inputs = linear.weight.shape
            yield f"{number}.to_{part}_lora.down.weight", random(RANK, inputs)
            yield f"{number}.to_{part}_lora.up.weight", 0.1 * random(outputs, RANK)
