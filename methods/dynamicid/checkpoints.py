"""Reading and writing DynamicID's checkpoints, strictly and safely.

Pickles are read with `weights_only=True`: a file that wants to run code is refused.
"""

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from idbench.methods.common.state_dicts import describe_keys, load_strictly
from idbench.methods.dynamicid.attention import LORA_RANK
from idbench.methods.dynamicid.expression import ResEmoteNet, config_of
from idbench.methods.dynamicid.injection import install_saa
from idbench.methods.dynamicid.keypoints import KeypointEncoder
from idbench.methods.dynamicid.projection import FaceProjection, FaceProjectionConfig
from idbench.methods.dynamicid.reconfigurator import (
    IdentityMotionReconfigurator,
    ReconfiguratorConfig,
)

SAA_PARTS = {"proj_module": "proj_module", "SAA_module": "SAA_module"}
"""The two entries of SAA.bin."""
ALIASES = {"adapter_modules": "SAA_module", "image_proj": "proj_module", "ip_adapter": "SAA_module"}
"""What the official trainer of the IMR and IP-Adapter-FaceID-Plus files call them."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a .safetensors file or of a pickle of plain tensors, on the CPU.

    Raises:
        ValueError: If the file is damaged, is no dictionary, or a pickle holds anything but plain
            data.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, EOFError, RuntimeError) as error:
        raise ValueError(
            f"{path}: not a file of plain tensors, or damaged; nothing in it was run ({error})"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds {type(content).__name__}, not a dictionary of tensors")
    return content


def read_state_dict(path: Path, wrapper: str | None = None) -> dict[str, Tensor]:
    """A flat state dict; `wrapper` is the key that it may lie under.

    Raises:
        ValueError: If a value is no tensor.
    """
    content = read_checkpoint(path)
    if wrapper is not None and isinstance(content.get(wrapper), dict):
        content = content[wrapper]
    return _tensors(content, str(path))


def _tensors(content: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    wrong = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if wrong:
        raise ValueError(f"{source}: these entries are no tensors: {describe_keys(wrong)}")
    return dict(content)


@dataclass(frozen=True, slots=True)
class SAAStates:
    """The two halves of SAA.bin: the face projection and the attention processors."""

    projection: dict[str, Tensor]
    attention: dict[str, Tensor]


def read_saa(path: Path) -> SAAStates:
    """Reads SAA.bin, or what this package saves, whose keys are joined with dots.

    Raises:
        ValueError: If there is anything else in it or a part is missing.
    """
    parts: dict[str, dict[str, Any]] = {}
    for key, value in read_checkpoint(path).items():
        if isinstance(value, dict):
            parts.setdefault(key, {}).update(value)
        else:
            part, _, name = str(key).partition(".")
            parts.setdefault(part, {})[name] = value
    renamed = {ALIASES.get(part, part): content for part, content in parts.items()}
    if renamed.keys() != SAA_PARTS.keys() or len(renamed) != len(parts):
        raise ValueError(
            f"{path}: must have the entries {', '.join(sorted(SAA_PARTS))} (or "
            f"{', '.join(sorted(ALIASES))}), got {describe_keys(parts)}"
        )
    projection, attention = (
        _tensors(renamed[part], f"{path}: {part}") for part in ("proj_module", "SAA_module")
    )
    return SAAStates(projection, attention)


ModuleT = TypeVar("ModuleT", bound=nn.Module)


def _sized(
    build: Callable[[], ModuleT],
    default: Callable[[], ModuleT],
    state: Mapping[str, Tensor],
    source: str,
) -> ModuleT:
    try:
        module = build()
    except (KeyError, IndexError, ValueError, ZeroDivisionError):
        module = default()  # the keys are wrong: comparing with the published sizes says how
    load_strictly(module, state, source)
    return module.eval()


def build_projection(state: Mapping[str, Tensor], source: str | Path) -> FaceProjection:
    """The face projection in the size of its weights.

    Raises:
        ValueError: If keys are missing or unknown, or shapes do not fit; the message names them.
    """

    def sized() -> FaceProjection:
        dim = state["norm.weight"].shape[0]
        depth = 1 + max(int(k.split(".")[2]) for k in state if ".layers." in k)
        return FaceProjection(
            FaceProjectionConfig(
                cross_attention_dim=dim,
                id_embeddings_dim=state["proj.0.weight"].shape[1],
                clip_embeddings_dim=state["perceiver_resampler.proj_in.weight"].shape[1],
                num_tokens=state["proj.2.weight"].shape[0] // dim,
                depth=depth,
            )
        )

    return _sized(sized, FaceProjection, state, f"{source}: proj_module")


def build_saa(
    unet: UNet2DConditionModel, state: Mapping[str, Tensor], source: str | Path
) -> nn.ModuleList:
    """Puts semantic-activated attention with these weights into the UNet.

    Raises:
        ValueError: If the weights are not those of this UNet's attentions.
    """
    down = state.get("0.to_q_lora.down.weight")
    modules = install_saa(unet, rank=LORA_RANK if down is None else down.shape[0])
    load_strictly(modules, state, f"{source}: SAA_module")
    return modules


def build_reconfigurator(
    state: Mapping[str, Tensor], source: str | Path
) -> IdentityMotionReconfigurator:
    """The IMR in the size of its weights; its heads are 64 wide.

    Raises:
        ValueError: If keys are missing or unknown, or shapes do not fit; the message names them.
    """

    def sized() -> IdentityMotionReconfigurator:
        dim = state["norm_out.weight"].shape[0]
        width = state["norm_in.weight"].shape[0]
        depths = {
            net: 1 + max(int(k.split(".")[1]) for k in state if k.startswith(net))
            for net in ("disentangleNet.", "entangleNet.")
        }
        return IdentityMotionReconfigurator(
            ReconfiguratorConfig(
                embedding_dim=width,
                text_dim=state["feature_fusion.0.weight"].shape[0] - width,
                dim=dim,
                heads=state["disentangleNet.0.0.to_q.weight"].shape[0] // 64,
                num_motion_tokens=state["feature_fusion.4.weight"].shape[0] // dim,
                feed_forward_multiplier=state["disentangleNet.0.2.1.weight"].shape[0] // dim,
                disentangle_depth=depths["disentangleNet."],
                entangle_depth=depths["entangleNet."],
            )
        )

    return _sized(sized, IdentityMotionReconfigurator, state, str(source))


def build_keypoint_encoder(state: Mapping[str, Tensor], source: str | Path) -> KeypointEncoder:
    """The key point encoder in the size of its weights.

    Raises:
        ValueError: If keys are missing or unknown, or shapes do not fit; the message names them.
    """

    def sized() -> KeypointEncoder:
        return KeypointEncoder(
            embedding_dim=state["blocks.6.1.conv_block.0.weight"].shape[0],
            width_divisor=16 // state["blocks.0.0.conv_block.0.weight"].shape[0],
        )

    return _sized(sized, KeypointEncoder, state, str(source))


def build_expression_network(state: Mapping[str, Tensor], source: str | Path) -> ResEmoteNet:
    """ResEmoteNet in the size of its weights.

    Raises:
        ValueError: If keys are missing or unknown, or it does not know seven expressions.
    """
    network = _sized(lambda: ResEmoteNet(config_of(state)), ResEmoteNet, state, str(source))
    if network.fc4.out_features != 7:
        raise ValueError(
            f"{source}: knows {network.fc4.out_features} expressions; the checkpoint with the 7 of "
            "FER2013 is needed"
        )
    return network


def save_saa(
    path: Path, projection: nn.Module, processors: nn.Module, metadata: Mapping[str, str]
) -> None:
    """Writes `proj_module.*` and `SAA_module.*` as safetensors, which `read_saa` reads."""
    tensors = {f"proj_module.{k}": v for k, v in projection.state_dict().items()}
    tensors |= {f"SAA_module.{k}": v for k, v in processors.state_dict().items()}
    save_module_tensors(path, tensors, metadata)


def save_module_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Writes tensors whole: under a temporary name that is then renamed."""
    part = path.with_name(f".{path.name}.part")
    save_file(
        {key: value.detach().cpu().contiguous() for key, value in tensors.items()},
        part,
        metadata=dict(metadata),
    )
    part.replace(path)
