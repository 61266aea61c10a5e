"""Keeps the activation of every query over layers and steps, for figures and for tests."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(slots=True)
class ActivationRecorder:
    """Maps (layer name, step index) to the gate of that layer, on the CPU in float32.

    A gate is (batch, queries) in [0, 1]: thresholded and before the layout term, as in figure 7
    of the paper. With classifier-free guidance the batch is the unconditional half and then the
    conditional one. `keep` selects layers by name; None keeps all. The caller sets `step_index`
    before each forward.
    """

    keep: Callable[[str], bool] | None = None
    step_index: int = 0
    activations: dict[tuple[str, int], Tensor] = field(default_factory=dict)

    def record(self, layer: str, gate: Tensor) -> None:
        """Keeps a copy of the gate of `layer` at the current step."""
        if self.keep is None or self.keep(layer):
            self.activations[layer, self.step_index] = gate.detach().float().cpu()
