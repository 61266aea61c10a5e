"""The settings that both training stages of DynamicID have, with their sources."""

from dataclasses import dataclass

from idbench.methods.common import training


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(training.TrainingConfig):
    """Settings of both stages; neither paper nor code states how many steps.

    Attributes:
        learning_rate: Section 4.1: 1e-5; the code's argument defaults to 1e-4.
        weight_decay: Official code: 1e-2.
        max_grad_norm: None, as the official code.
    """

    learning_rate: float = 1e-5
