"""Reads checkpoints of other projects without running code from them."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class CheckpointError(ValueError):
    """A file that is not the checkpoint it should be."""


def read_pickle(path: Path, allowed: Iterable[Any] = ()) -> Any:
    """What `torch.save` wrote, on the CPU: tensors and plain containers only.

    Args:
        path: The file.
        allowed: Classes (or pairs of class and pickled name) that may occur besides tensors.

    Raises:
        CheckpointError: If the file holds anything else, or is no such file.
    """
    try:
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch errors of a file that others wrote
        raise CheckpointError(
            f"{path} is refused: it is no checkpoint of tensors only ({_first_line(error)}); "
            "`idbench weights verify` tells whether it is the published file"
        ) from error


def unfilled(build: Callable[[], nn.Module]) -> nn.Module:
    """A module without memory for its weights, which `load_strictly` then hands it.

    Random weights of a large network take longer to draw than the real ones to read.
    """
    with torch.device("meta"):
        return build()


def load_strictly(
    module: nn.Module, state: Mapping[str, Tensor], path: Path, unused: Iterable[str] = ()
) -> nn.Module:
    """Loads a state dict; every key must be used and every parameter found.

    `num_batches_tracked`, which old checkpoints lack and inference does not read, may be absent.

    Args:
        module: The network, built in its official shape, or `unfilled`.
        state: Official keys to tensors.
        path: Where it came from, for the message.
        unused: Prefixes of keys that the published file holds and inference does not need.

    Raises:
        CheckpointError: If keys or shapes differ; the first few are named.
    """
    prefixes = tuple(unused)
    kept = {key: value for key, value in state.items() if not key.startswith(prefixes)}
    own = module.state_dict()
    absent = [key for key in own if key not in kept and not key.endswith("num_batches_tracked")]
    extra = [key for key in kept if key not in own]
    shapes = [
        f"{key} {tuple(kept[key].shape)} instead of {tuple(own[key].shape)}"
        for key in kept
        if key in own and kept[key].shape != own[key].shape
    ]
    faults = {"absent": absent, "unknown": extra, "of another shape": shapes}
    if any(faults.values()):
        told = "; ".join(f"{len(v)} {k}: {', '.join(v[:3])}" for k, v in faults.items() if v)
        raise CheckpointError(f"{path} does not fit {type(module).__name__}: {told}")
    counters = {key: torch.zeros((), dtype=torch.long) for key in own if key not in kept}
    floats = {key: v.float() if v.is_floating_point() else v for key, v in kept.items()}
    module.load_state_dict({**counters, **floats}, assign=True)
    return module


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"[:200]
