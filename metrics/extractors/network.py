"""A network that is loaded on first use and run in batches of one fixed size."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from idbench.metrics.extractors.precision import exact_inference, torch_dtype
from idbench.metrics.extractors.stopwatch import one_pass

# On a CPU a batch is no faster than its images one by one, and one by one an image costs no
# padding and meets the same kernels whatever comes with it.
CPU_BATCH = 1


class Network:
    """A module, where it runs, and how many inputs at once.

    Every pass has exactly `batch_size` inputs, the last ones padded with copies, because the
    kernels that a library picks, and so the last bits of a result, depend on the shape of a batch.

    Args:
        load: Builds the module with its weights, in float32 on the CPU.
        device: Where it runs, such as "cpu" or "cuda:0".
        dtype: Arithmetic of weights and inputs, a name of `precision.DTYPES`.
        batch_size: Inputs per pass; None takes `cuda_batch` on CUDA and 1 on a CPU.
        cuda_batch: A size that suits this network on a large GPU.
    """

    def __init__(
        self,
        load: Callable[[], nn.Module],
        *,
        device: str = "cpu",
        dtype: str = "float32",
        batch_size: int | None = None,
        cuda_batch: int = 16,
    ) -> None:
        """Checks the arguments; nothing is loaded.

        Raises:
            ValueError: If `dtype` is unknown or `batch_size` is below 1.
        """
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be None or at least 1, got {batch_size}")
        self.device = torch.device(device)
        self.dtype_name = dtype
        self.dtype = torch_dtype(dtype)
        on_cuda = self.device.type == "cuda"
        self.batch_size = batch_size or (cuda_batch if on_cuda else CPU_BATCH)
        self._load = load
        self._module: nn.Module | None = None

    @property
    def module(self) -> nn.Module:
        """The module on its device, in evaluation mode; loaded if it was not."""
        if self._module is None:
            loaded = self._load().eval().requires_grad_(False)
            self._module = loaded.to(device=self.device, dtype=self.dtype)
        return self._module

    def release(self) -> None:
        """Frees the module; the next call loads it again."""
        self._module = None

    def __call__(
        self,
        inputs: Sequence[Tensor] | Sequence[tuple[Tensor, ...]],
        forward: Callable[..., Tensor] | None = None,
    ) -> list[Tensor]:
        """One float32 output on the CPU per input, in order.

        Args:
            inputs: Tensors of one shape without a batch axis, or tuples of them; integers and
                booleans keep their type.
            forward: What to run on the module and a batch (or a batch per member of the tuples);
                the module itself by default.
        """
        run = forward if forward is not None else _forward
        rows = [(entry,) if isinstance(entry, Tensor) else entry for entry in inputs]
        outputs: list[Tensor] = []
        with exact_inference():
            for start in range(0, len(rows), self.batch_size):
                chunk = rows[start : start + self.batch_size]
                padded = [*chunk, *[chunk[-1]] * (self.batch_size - len(chunk))]
                module = self.module
                columns = [torch.stack(column) for column in zip(*padded, strict=True)]
                with one_pass(len(chunk)):
                    batches = [self._placed(column) for column in columns]
                    outputs.extend(run(module, *batches)[: len(chunk)].float().cpu())
        return outputs

    def _placed(self, batch: Tensor) -> Tensor:
        batch = batch.to(self.device)
        return batch.to(self.dtype) if batch.is_floating_point() else batch


def _forward(module: nn.Module, batch: Tensor) -> Tensor:
    output: Tensor = module(batch)
    return output
