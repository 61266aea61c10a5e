"""What the registry knows of an extractor before it is imported."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtractorEntry:
    """What is known of an extractor before it is imported.

    `target` is "module:Class"; the class takes `device` and `dtype`, and `arguments`. `needs` are
    the extractors whose features it reads. `packages` must be installed (they may hold nothing but
    data); the extra `extra` brings them. `missing_weights`, if any, is "module:callable" without
    arguments and gives what is absent, each with the command to get it. `weights` are keys of the
    weights catalogue; a class with weights takes a `WeightStore` first.
    """

    target: str
    needs: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    extra: str
    missing_weights: str | None = None
    weights: tuple[str, ...] = ()
    arguments: Mapping[str, object] = field(default_factory=dict)
