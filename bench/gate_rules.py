"""Rules of a gate, read strictly from YAML."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from idbench.columns import match_column
from idbench.methods.common.yaml_text import read_yaml
from idbench.records import Column

_STRICT = ConfigDict(extra="forbid", strict=True)

Share = Annotated[float, Field(ge=0, le=1)]
Confidence = Annotated[float, Field(gt=0.5, lt=1)]


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleConfig:
    """A rule as written; every field but `max_drop` may come from `defaults`.

    `max_drop` is the largest change for the worse that is allowed, in the unit of the column.
    `confidence` is how sure the gate must be, before it says either that the allowed drop is
    exceeded or that it is not. `min_coverage` is the least share of samples with a value,
    `max_misses` the largest number without one; one of the two must be given, so that a metric
    cannot improve by losing samples. `direction` says which way is better where the column does
    not. `min_identities` is how many identities a verdict must stand on.
    """

    __pydantic_config__ = _STRICT

    max_drop: Annotated[float, Field(ge=0)] | None = None
    confidence: Confidence | None = None
    min_coverage: Share | None = None
    max_misses: Annotated[int, Field(ge=0)] | None = None
    min_identities: Annotated[int, Field(ge=2)] | None = None
    direction: Literal["up", "down"] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class GateConfig:
    """The file of rules: defaults, then one rule per column, by full or short name."""

    __pydantic_config__ = _STRICT

    format: Literal["idbench.gate/1"]
    rules: Annotated[dict[str, RuleConfig], Field(min_length=1)]
    defaults: RuleConfig = field(default_factory=RuleConfig)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """A rule for one column with nothing left open.

    `fail_confidence` is what a verdict "regression" needs. Where `confidence` was not given for
    this rule alone, the share of false alarms 1 - confidence is split among the rules that share
    it, so that it holds for the gate as a whole.
    """

    column: Column
    higher_is_better: bool
    max_drop: float
    confidence: float
    fail_confidence: float
    min_coverage: float | None
    max_misses: int | None
    min_identities: int


def read_rules(path: Path, columns: Sequence[Column]) -> list[Rule]:
    """The rules of a file for the columns of a baseline.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no rules file; the message names file and key.
        LookupError: If a column is unknown or ambiguous.
    """
    return resolve_rules(_read(path), columns, where=str(path))


def resolve_rules(config: GateConfig, columns: Sequence[Column], *, where: str) -> list[Rule]:
    """As `read_rules`, from a parsed file; `where` names it in messages."""
    sharing = sum(rule.confidence is None for rule in config.rules.values())
    rules: list[Rule] = []
    for name, rule in config.rules.items():
        given = {
            key: value
            if (value := getattr(rule, key)) is not None
            else getattr(config.defaults, key)
            for key in RuleConfig.__dataclass_fields__
        }
        full = match_column(name, [column.name for column in columns])
        (column,) = [column for column in columns if column.name == full]
        if any(other.column == column for other in rules):
            raise ValueError(f"{where}: rules.{name}: {full} has two rules")
        if given["max_drop"] is None:
            raise ValueError(f"{where}: rules.{name}.max_drop: is missing, and so in defaults")
        if given["min_coverage"] is None and given["max_misses"] is None:
            raise ValueError(
                f"{where}: rules.{name}: needs min_coverage or max_misses, or a metric could "
                "improve by losing samples"
            )
        better = {"up": True, "down": False, None: column.higher_is_better}[given["direction"]]
        if better is None:
            raise ValueError(
                f"{where}: rules.{name}.direction: {full} does not say which way is better; "
                "give up or down"
            )
        confidence = given["confidence"] if given["confidence"] is not None else 0.99
        split = sharing if rule.confidence is None else 1
        rules.append(
            Rule(
                column=column,
                higher_is_better=better,
                max_drop=given["max_drop"],
                confidence=confidence,
                fail_confidence=1 - (1 - confidence) / split,
                min_coverage=given["min_coverage"],
                max_misses=given["max_misses"],
                min_identities=given["min_identities"] or 5,
            )
        )
    return rules


def _read(path: Path) -> GateConfig:
    try:
        loaded = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"there are no rules {path}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    try:
        return TypeAdapter(GateConfig).validate_python(loaded, strict=False)
    except ValidationError as error:
        lines = [
            f"{path}: {'.'.join(map(str, entry['loc'])) or 'file'}: {entry['msg']}"
            for entry in error.errors()
        ]
        raise ValueError("\n".join(lines)) from error
