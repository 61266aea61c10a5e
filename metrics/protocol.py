"""The contracts between networks (`Extractor`), maths (`Metric`) and the harness."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Features = Mapping[str, NDArray[Any]]
Role = Literal[
    "generated", "reference", "base", "ground_truth", "original", "edited", "prompt", "element"
]


@dataclass(frozen=True, slots=True)
class Missing:
    """Why there is no value. `reason` is a slug: no_face, no_reference_face, no_image, error."""

    reason: str
    detail: str = ""


class MissingValueError(Exception):
    """Raised inside a metric when an observation cannot be scored; becomes a `Missing`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        """Keeps the reason, a slug, and the detail for people."""
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.missing = Missing(reason, detail)


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One input of an extractor: an image (uint8 RGB, height x width x 3), a text, or both.

    `text` is a text to read, the prompt of the image for an extractor that reads "image_text", and
    the word for its subject for one that reads "image_subject". `mask`, `height width`, is true on
    the subject; only an extractor that reads "image_mask" is given one, where there is one.

    `features` holds what the extractors named in `Extractor.needs` found in the same input.
    """

    image: NDArray[np.uint8] | None = None
    text: str | None = None
    mask: NDArray[np.bool_] | None = None
    features: Mapping[str, Features] = field(default_factory=dict)


class Extractor(Protocol):
    """A network pass that yields features: a few named arrays per input.

    Constructing one is cheap and fails early when weights are absent; the network is loaded by the
    first call. The features of an item depend neither on the other items of the call nor on how
    many they are (bit for bit on one device).
    """

    name: str
    needs: tuple[str, ...]
    reads: Literal["image", "text", "image_text", "image_subject", "image_mask"]

    def fingerprint(self) -> Mapping[str, object]:
        """Everything that can move a number: version, weights by sha256, parameters, dtype."""
        ...

    def __call__(self, items: Sequence[Item]) -> list[Features | Missing]:
        """Features or a reason, one per item, in order."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What the case asked of one person of an observation. `box` is relative, in [0, 1]."""

    person: int = 0
    expression: str | None = None
    orientation: str | None = None
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """One generated image with all that a metric may look at.

    `features[role]` has one entry per image or text of that role (references in person order),
    each a map from extractor name to its features or the reason why there are none.
    """

    prompt: str
    features: Mapping[Role, Sequence[Mapping[str, Features | Missing]]]
    subjects: tuple[Subject, ...] = ()

    def get(self, role: Role, extractor: str, index: int = 0) -> Features:
        """Features of one image or text, all of them finite.

        Raises:
            MissingValueError: If there is no such input, its features are missing, or a network
                gave a number that is not finite, which could pass for a class or an order.
        """
        entries = self.features.get(role, ())
        if index >= len(entries):
            raise MissingValueError(f"no_{role}", f"the case has {len(entries)} {role} inputs")
        found = entries[index][extractor]
        if isinstance(found, Missing):
            raise MissingValueError(found.reason, f"{role}: {found.detail}")
        for name, values in found.items():
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise MissingValueError("not_finite", f"{role}: {name} of {extractor}")
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricInfo:
    """What a column of a table means.

    `variants` are the values one metric yields, such as ("yaw", "pitch", "roll"); ("",) for one
    without variants. `bounds` is the closed range of a value. `axis` says which side of the
    trade-off it is on. `higher_is_better` is None where the direction is a matter of use.
    `chance` is the score of guessing, where a score can only be read beside it.
    """

    name: str
    protocol: Literal["ibench", "strict"]
    backend: str
    summary: str
    unit: str
    higher_is_better: bool | None
    bounds: tuple[float, float]
    axis: Literal["preservation", "editability", "text", "quality"]
    variants: tuple[str, ...] = ("",)
    papers: tuple[str, ...] = ()
    comparable_to_published: bool = True
    chance: float | None = None

    def columns(self) -> tuple[str, ...]:
        """Column names, `metric[.variant]@protocol[backend]`, in the order of `variants`."""
        return tuple(
            f"{self.name}{'.' if variant else ''}{variant}@{self.protocol}[{self.backend}]"
            for variant in self.variants
        )


class Metric(Protocol):
    """Maths on features: one value, or the reason why there is none, per variant.

    A metric imports no network. `needs` names the extractors per role; `version` is raised with
    every change that can move a value.
    """

    info: MetricInfo
    needs: Mapping[Role, tuple[str, ...]]
    version: int

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """Variant to value. May raise `MissingValueError`, which stands for all variants."""
        ...


class SetState(Protocol):
    """What a set metric remembers of the observations it saw. States can be merged."""

    def update(self, observation: Observation) -> None:
        """Adds an observation. May raise `MissingValueError`; the state is then unchanged."""
        ...

    def merge(self, other: Self) -> None:
        """Adds what another state saw; the result does not depend on how a set was divided."""
        ...

    def compute(self) -> Mapping[str, float | Missing]:
        """Variant to value, for all observations so far."""
        ...


class SetMetric(Protocol):
    """A metric of a set of images that has no value for one of them, such as FID.

    `info`, `needs` and `version` mean what they mean for a `Metric`.
    """

    info: MetricInfo
    needs: Mapping[Role, tuple[str, ...]]
    version: int

    def start(self) -> SetState:
        """A state that has seen nothing."""
        ...
