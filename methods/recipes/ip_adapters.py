"""IP-Adapters: their files into a pipeline, faces and places into their arguments."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from idbench.methods.common.insight_faces import (
    FoundFace,
    InsightFaces,
    NoFaceError,
    aligned_crop,
    choose_face,
)
from idbench.methods.common.state_dicts import describe_keys
from idbench.methods.protocol import Reference
from idbench.methods.recipes.inputs import UnusableRequestError
from idbench.methods.recipes.recipe import IPAdapter

CROP_SIZE = 224  # of the aligned face that FaceID-Plus looks at, official code


def load_ip_adapter(pipe: Any, adapter: IPAdapter, folder: Path) -> None:
    """Puts an IP-Adapter into a pipeline whose image encoder, if it needs one, is there already.

    Raises:
        OSError: If there is no such file.
        ValueError: If the file has layers that the pipeline's network does not have, or lacks some.
    """
    file = folder / adapter.subfolder / adapter.weight_name
    network = getattr(pipe, "unet", None) or pipe.transformer
    before = set(network.attn_processors)
    # Filling the modules in place would leave what a file lacks without values.
    options: dict[str, Any] = {"low_cpu_mem_usage": False, "local_files_only": True}
    where = "image_encoder_folder" if hasattr(pipe, "unet") else _FLUX_ENCODER
    options[where] = None
    try:
        pipe.load_ip_adapter(
            str(folder), subfolder=adapter.subfolder, weight_name=adapter.weight_name, **options
        )
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{file}: not an IP-Adapter for this network; {error}") from error
    layers = {_layer(key) for key in _keys(file) if ".to_k_ip." in key or "k_proj" in key}
    used = [name for name, part in network.attn_processors.items() if hasattr(part, "to_k_ip")]
    if len(layers) != len(used):
        raise ValueError(
            f"{file}: an IP-Adapter of {len(layers)} layers ({describe_keys(layers)}), but the "
            f"network has {len(used)} of {len(before)} that take one"
        )
    pipe.set_ip_adapter_scale(adapter.scale)


_FLUX_ENCODER = "image_encoder_pretrained_model_name_or_path"


def _keys(file: Path) -> list[str]:
    if file.suffix == ".safetensors":
        with safe_open(file, framework="pt") as tensors:
            return list(tensors.keys())
    groups = torch.load(file, map_location="cpu", weights_only=True)
    return [f"{group}.{key}" for group, tensors in groups.items() for key in tensors]


def _layer(key: str) -> str:
    """The number of a layer: "ip_adapter.1.to_k_ip.weight", "double_blocks.0.processor..."."""
    return key.split(".")[1]


def faces_of(
    references: Sequence[Reference], networks: InsightFaces
) -> list[tuple[Image.Image, FoundFace]]:
    """The face of each reference, with the picture it is in.

    Raises:
        UnusableRequestError: If a reference shows no face.
    """
    found = []
    for index, reference in enumerate(references):
        try:
            face = choose_face(networks.find(reference.image), reference.face_box)
        except NoFaceError as error:
            raise UnusableRequestError("no_face", f"no face in reference {index}") from error
        found.append((reference.image, face))
    return found


def face_embeds(
    faces: Sequence[tuple[Image.Image, FoundFace]],
    networks: InsightFaces,
    *,
    raw: bool,
    guided: bool,
) -> Tensor:
    """Face embeddings as adapters take them, (2, faces, 1, 512), zeros first.

    Of length 1, unless `raw`. Without classifier-free guidance there are no zeros,
    (1, faces, 1, 512).
    """
    found = np.stack([networks.embed(picture, face) for picture, face in faces])
    if not raw:
        found = found / np.linalg.norm(found, axis=-1, keepdims=True)
    embeds = torch.from_numpy(found)[None, :, None]
    return torch.cat([torch.zeros_like(embeds), embeds]) if guided else embeds


@contextmanager
def controlnet_reading_tokens(pipe: Any, embeds: Tensor) -> Iterator[None]:
    """Meanwhile the ControlNet is given the adapter's tokens in place of the prompt.

    Args:
        pipe: A pipeline with a ControlNet and one IP-Adapter.
        embeds: As `face_embeds` gives them.
    """
    with torch.no_grad():
        tokens = pipe.unet.encoder_hid_proj([embeds])[0].flatten(1, 2)

    def swap(_module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "encoder_hidden_states": tokens}

    handle = pipe.controlnet.register_forward_pre_hook(swap, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def set_face_crops(
    pipe: Any,
    faces: Sequence[tuple[Image.Image, FoundFace]],
    *,
    shortcut: bool,
    guided: bool,
) -> None:
    """Gives the projection of FaceID-Plus the CLIP tokens of the aligned faces.

    diffusers keeps them in the module, so they are set anew for each image.
    """
    crops = [aligned_crop(picture, face, CROP_SIZE) for picture, face in faces]
    device = pipe.unet.device
    tokens = pipe.prepare_ip_adapter_image_embeds([crops], None, device, 1, guided)[0]
    projection = pipe.unet.encoder_hid_proj.image_projection_layers[0]
    projection.clip_embeds = tokens.to(pipe.unet.dtype)
    projection.shortcut = shortcut


def as_ip_adapter_masks(masks: NDArray[np.float32], device: torch.device) -> list[Tensor]:
    """Masks (references, height, width) as the one IP-Adapter of a pipeline takes them."""
    return [torch.from_numpy(masks)[None].to(device)]
