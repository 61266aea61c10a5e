"""Torch settings under which a network's float32 means float32 and its result is repeatable."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype of a name.

    Raises:
        ValueError: If the name is not one of `DTYPES`.
    """
    if name not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {name!r}")
    return DTYPES[name]


@contextmanager
def exact_inference() -> Iterator[None]:
    """Inference mode, with cuDNN kept from TensorFloat-32 and from picking algorithms by timing.

    Without it a convolution in "float32" on CUDA rounds its inputs to ten bits.
    """
    with (
        torch.inference_mode(),
        torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ),
    ):
        yield
