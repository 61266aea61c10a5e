"""A method as a run asks for it: name, arguments and label."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from idbench.methods.protocol import Method
from idbench.methods.registry import build


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodSpec:
    """A method by name, its arguments, and what tables call it."""

    name: str
    args: Mapping[str, object] = field(default_factory=dict)
    label: str | None = None

    def build(self, device: str, dtype: str) -> Method:
        """The method itself; weights are loaded by its first `generate`."""
        return build(self.name, self.args, device=device, dtype=dtype)

    def display(self, method: Method) -> str:
        """The label, or the method's name with the arguments that were given."""
        given = ",".join(f"{key}={value}" for key, value in sorted(self.args.items()))
        return self.label or (f"{method.name}({given})" if given else method.name)
