"""Strict reading of checkpoints: nothing missing, nothing left over, the difference named."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor, nn

_SHOWN = 8  # keys named in a message before the rest is counted


def describe_keys(keys: Iterable[str]) -> str:
    """The first few keys in sorted order, and how many more there are."""
    names = sorted(keys)
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def load_strictly(module: nn.Module, state_dict: Mapping[str, Tensor], source: str | Path) -> None:
    """Loads `state_dict` into `module`, in place, or says which keys differ and how.

    Raises:
        ValueError: If keys are missing or unknown or shapes differ. `source` begins the message.
    """
    expected = module.state_dict()
    faults = []
    if missing := expected.keys() - state_dict.keys():
        faults.append(f"missing {describe_keys(missing)}")
    if unknown := state_dict.keys() - expected.keys():
        faults.append(f"unknown {describe_keys(unknown)}")
    wrong = [
        f"{key} {tuple(state_dict[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected.keys() & state_dict.keys()
        if state_dict[key].shape != expected[key].shape
    ]
    if wrong:
        faults.append(f"wrong shape: {describe_keys(wrong)}")
    if faults:
        raise ValueError(f"{source}: {'; '.join(faults)}")
    module.load_state_dict(state_dict, strict=True)
