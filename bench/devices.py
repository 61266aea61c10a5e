"""The devices that a run may use: one worker process for each."""

import re

_DEVICE = re.compile(r"[a-z]+(:(\d+|\*))?")


def devices_of(text: str) -> tuple[str, ...]:
    """The devices of "cuda:0,cuda:1", of "cuda:*" (all that are visible), or of one name.

    Raises:
        ValueError: If a part is no device, or there is none of its kind.
    """
    found: list[str] = []
    for part in text.split(","):
        name = part.strip()
        if not _DEVICE.fullmatch(name):
            raise ValueError(
                f"device must be such as cpu, cuda, cuda:1, cuda:0,cuda:1 or cuda:*, got {text!r}"
            )
        found += _all(name.removesuffix(":*")) if name.endswith(":*") else [name]
    return tuple(found)


def _all(kind: str) -> list[str]:
    if kind != "cuda":
        raise ValueError(f"all devices are known of cuda only, not of {kind!r}; list them")
    import torch

    count = torch.cuda.device_count()
    if not count:
        raise ValueError("cuda:* names no device: none is visible here (idbench doctor)")
    return [f"cuda:{number}" for number in range(count)]
