"""An ONNX network through onnxruntime, on the device that was asked for and no other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from idbench.metrics.extractors.stopwatch import one_pass

_CUDA = "CUDAExecutionProvider"
CPU_BATCH = 1


class DeviceError(RuntimeError):
    """The device that was asked for is not available to onnxruntime."""


class OnnxNetwork:
    """A session that is opened on first use and run in batches of one fixed size.

    Args:
        path: The `.onnx` file.
        device: "cpu", "cuda" or "cuda:1" and so on. onnxruntime falls back to the CPU without a
            word when its CUDA libraries do not load; here that is an error.
        batch_size: Inputs per run; None takes 1 on a CPU and 16 on CUDA. A graph whose batch axis
            is fixed runs at that size.
    """

    def __init__(self, path: Path, *, device: str = "cpu", batch_size: int | None = None) -> None:
        """Keeps the arguments; nothing is loaded.

        Raises:
            ValueError: If `device` is neither "cpu" nor CUDA, or `batch_size` is below 1.
        """
        kind, _, index = device.partition(":")
        if kind not in {"cpu", "cuda"}:
            raise ValueError(
                f"device must be cpu or cuda[:index] for ONNX networks, got {device!r}"
            )
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be None or at least 1, got {batch_size}")
        self.path = path
        self._on_cuda = kind == "cuda"
        self._index = int(index or 0)
        self._batch_size = batch_size or (16 if self._on_cuda else CPU_BATCH)
        self._session: onnxruntime.InferenceSession | None = None

    @property
    def session(self) -> onnxruntime.InferenceSession:
        """The open session.

        Raises:
            DeviceError: If CUDA was asked for and onnxruntime cannot use it.
        """
        if self._session is None:
            self._session = self._open()
        return self._session

    def release(self) -> None:
        """Closes the session; the next call opens it again."""
        self._session = None

    @property
    def input_side(self) -> int | None:
        """Height of the input where the graph fixes it."""
        side = self.session.get_inputs()[0].shape[2]
        return side if isinstance(side, int) else None

    def run(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """All outputs of the graph for one batch, in graph order."""
        session = self.session
        name = session.get_inputs()[0].name
        with one_pass(len(batch)):
            outputs: list[NDArray[np.float32]] = session.run(None, {name: batch})
        return outputs

    def __call__(self, inputs: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """The first output for each input, in order; inputs have one shape and no batch axis."""
        fixed = self.session.get_inputs()[0].shape[0]
        size = fixed if isinstance(fixed, int) else self._batch_size
        outputs: list[NDArray[np.float32]] = []
        for start in range(0, len(inputs), size):
            batch = np.stack(list(inputs[start : start + size]))
            count = len(batch)
            if count < size:
                batch = np.concatenate([batch, np.repeat(batch[-1:], size - count, axis=0)])
            outputs.extend(self.run(batch)[0][:count])
        return outputs

    def _open(self) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # The harness runs one process per core; more threads would change the order of sums.
        options.intra_op_num_threads = 1
        providers: list[Any] = ["CPUExecutionProvider"]
        if self._on_cuda:
            if _CUDA not in onnxruntime.get_available_providers():
                raise self._no_cuda()
            providers.insert(0, (_CUDA, {"device_id": self._index}))
        session = onnxruntime.InferenceSession(str(self.path), options, providers=providers)
        if self._on_cuda and session.get_providers()[0] != _CUDA:
            raise self._no_cuda()
        return session

    def _no_cuda(self) -> DeviceError:
        return DeviceError(
            f"onnxruntime cannot run {self.path.name} on cuda:{self._index}; it has "
            f"{', '.join(onnxruntime.get_available_providers())}. Install onnxruntime-gpu for "
            "your CUDA version, or use device cpu"
        )
