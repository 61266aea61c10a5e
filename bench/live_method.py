"""A model that is here already, as a method: what a training evaluates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from idbench.method_spec import MethodSpec
from idbench.methods.protocol import Capabilities, Method, Request

Generate = Callable[[Sequence[Request]], Sequence[Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveMethod:
    """The model at one step of a training.

    Its weights change under its hands: the fingerprint is that of training and step.
    """

    name: str
    capabilities: Capabilities
    training: str
    step: int
    make: Generate

    def fingerprint(self) -> Mapping[str, object]:
        """Training and step."""
        return {"method": "training", "training": self.training, "step": self.step}

    def generate(self, requests: Sequence[Request]) -> Sequence[Any]:
        """What the user's function answers."""
        return self.make(requests)


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveSpec(MethodSpec):
    """A method that needs no building; for runs in this process only."""

    method: Method

    def build(self, device: str, dtype: str) -> Method:
        """The method itself."""
        del device, dtype
        return self.method
