"""The adapter as a folder in diffusers' layout: `config.json` and one safetensors file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from idbench.methods.common.files import write_with
from idbench.methods.common.state_dicts import load_strictly
from idbench.methods.flexip.adapter import FlexIPAdapter

CONFIG = "config.json"
WEIGHTS = SAFETENSORS_WEIGHTS_NAME
METADATA_KEY = "flexip"


def save_adapter(adapter: FlexIPAdapter, folder: Path) -> None:
    """Writes the folder, each file whole.

    `FlexIPAdapter.from_pretrained` reads it as well as `load_adapter`, and `push_to_hub` shares
    it. The safetensors file repeats the configuration in its metadata, so that it can be read
    alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = adapter.to_json_string()
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in adapter.state_dict().items()
    }
    # diffusers refuses a file that does not name its format.
    metadata = {"format": "pt", METADATA_KEY: json.dumps(json.loads(settings), sort_keys=True)}
    write_with(folder / WEIGHTS, lambda file: _save_in_order(tensors, file, metadata))
    write_with(folder / CONFIG, lambda file: file.write_text(settings, encoding="utf-8"))


def _save_in_order(tensors: Mapping[str, Tensor], file: Path, metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file whose bytes are the same every time.

    The library writes metadata in the random order of a hash map; digests of files are compared.
    """
    save_file(dict(tensors), file, metadata=dict(metadata))
    with file.open("r+b") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
        ordered = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        stream.seek(8)
        stream.write(ordered.encode().ljust(size))  # spaces at the end are part of the format


def read_settings(folder: Path) -> dict[str, Any]:
    """The arguments that an adapter was built with, from its `config.json`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not that of a FlexIP adapter.
    """
    file = folder / CONFIG
    if not file.is_file():
        raise FileNotFoundError(
            f"there is no {file}; a FlexIP adapter is a folder with {CONFIG} and {WEIGHTS}"
        )
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: not JSON: {error}") from error
    found = settings.get("_class_name") if isinstance(settings, dict) else None
    if found != FlexIPAdapter.__name__:
        raise ValueError(f"{file}: of {found or 'something else'}, not of a FlexIP adapter")
    return {name: value for name, value in settings.items() if not name.startswith("_")}


def load_adapter(folder: Path) -> FlexIPAdapter:
    """Reads a folder strictly, on the CPU; the adapter is in float32 whatever the file holds.

    Raises:
        FileNotFoundError: If a file is absent.
        ValueError: If the configuration is not that of a FlexIP adapter, a file is damaged, or keys
            or shapes are others than the configuration says; the message names them.
    """
    settings = read_settings(folder)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise FileNotFoundError(f"there is no {weights}, only its {CONFIG}; get it as well")
    try:
        adapter: FlexIPAdapter = FlexIPAdapter(**settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / CONFIG}: {error}") from error
    try:
        state = load_file(weights)
    except SafetensorError as error:
        raise ValueError(f"{weights}: damaged or no safetensors file ({error})") from error
    load_strictly(adapter, state, weights)
    adapter.eval()
    return adapter
