"""What a run is asked for, read strictly from YAML and flags."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from idbench.executors import RayOptions
from idbench.method_spec import MethodSpec
from idbench.methods.common.yaml_text import read_yaml

_STRICT = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodConfig:
    """A method in a configuration: `name`, its arguments, and what tables call it."""

    __pydantic_config__ = _STRICT

    name: str
    args: dict[str, str | int | float | bool | list[str | int | float]] = field(
        default_factory=dict
    )
    label: str | None = None


RAY_KEYS = (
    "ray_address", "ray_gpus", "ray_score_gpus", "ray_dashboard", "node_store",
)  # fmt: skip
SCORING_SHARE = 0.25  # of a GPU, beside the method that generates

Size = Annotated[list[Annotated[int, Field(ge=1, le=16384)]], Field(min_length=2, max_length=2)]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Everything `idbench run` can be told.

    `shard` is "i/n", only the i-th of n shares of the cases, for job arrays. `size` is
    [width, height], None the method's own. `seed` replaces the hashed seeds by seed + sample for
    every case. `timeout` is the longest that a batch may take, in seconds. `device` may list
    several, as cuda:0,cuda:1 or cuda:*. `base` is the run directory of the same base model without
    identity, which some metrics compare with. `max_failures` is the share of samples that may fail
    before the exit code is 1. `overlap` scores images while others are made; None does so on
    several devices and on Ray with GPUs.

    For `executor` ray: the address of a cluster (None starts one on this machine), what a worker
    takes of a node (None: 3/4 of a GPU to generate and 1/4 to score on cuda, else none), whether
    to show the dashboard on loopback, and a folder of each node for images where the nodes share
    no file system.
    """

    __pydantic_config__ = _STRICT

    suite: str
    methods: Annotated[list[str | MethodConfig], Field(min_length=1)]
    metrics: list[str] = field(default_factory=lambda: ["embedded"])
    output: str = "runs"
    limit: Annotated[int, Field(ge=1)] | None = None
    shard: str | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    size: Size | None = None
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    workers: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = "auto"
    timeout: Annotated[float, Field(gt=0)] | None = None
    executor: Literal["local", "ray"] = "local"
    overlap: bool | None = None
    ray_address: str | None = None
    ray_gpus: Annotated[float, Field(ge=0)] | None = None
    ray_score_gpus: Annotated[float, Field(ge=0)] | None = None
    ray_cpus: Annotated[float, Field(ge=0)] = 1.0
    ray_dashboard: bool = False
    node_store: str | None = None
    device: str = "cpu"
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    base: str | None = None
    max_failures: Annotated[float, Field(ge=0, le=1)] = 0.0
    retry_failed: bool = False

    def shard_pair(self) -> tuple[int, int] | None:
        """The shard as (number from 1, count).

        Raises:
            ValueError: If it is not i/n with 1 <= i <= n.
        """
        if self.shard is None:
            return None
        number, _, count = self.shard.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise ValueError(f"shard must be i/n with 1 <= i <= n, such as 3/8, got {self.shard!r}")
        return int(number), int(count)

    def ray(self, *, scoring: bool) -> RayOptions | None:
        """How to use Ray, None where it is not asked for."""
        if self.executor != "ray":
            given = [key for key in RAY_KEYS if getattr(self, key)]
            if given:
                raise ValueError(f"{', '.join(given)}: only with executor ray")
            return None
        gpus = self.ray_score_gpus if scoring else self.ray_gpus
        if gpus is None:
            share = SCORING_SHARE if scoring else 1 - SCORING_SHARE
            gpus = share if self.device.startswith("cuda") else 0.0
        # Scoring reads the images; generating needs a shared folder unless nodes keep their own.
        shared = Path(self.output) if scoring or self.node_store is None else None
        return RayOptions(
            address=self.ray_address,
            gpus=gpus,
            cpus=self.ray_cpus,
            dashboard=self.ray_dashboard,
            shared=shared,
        )

    def scores_ahead(self) -> bool:
        """Whether images are scored while others are made."""
        if self.overlap is not None:
            return self.overlap
        several = "," in self.device or "*" in self.device or self.executor == "ray"
        return several and not self.device.startswith("cpu")

    def method_specs(self) -> list[MethodSpec]:
        """The methods as `generate` takes them."""
        return [
            MethodSpec(name=entry)
            if isinstance(entry, str)
            else MethodSpec(name=entry.name, args=entry.args, label=entry.label)
            for entry in self.methods
        ]


def read_config(path: Path | None, flags: Mapping[str, Any]) -> RunConfig:
    """The configuration of a YAML file, with `flags` in place of the keys they name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no YAML mapping, or a key is unknown, missing or of a wrong type; the
            message names file and key.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            loaded = read_yaml(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise FileNotFoundError(f"there is no configuration {path}") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not YAML: {error}") from error
        if not isinstance(loaded, dict):
            raise ValueError(f"{path} must be a mapping of keys, such as `suite: demo`")
        values = loaded
    where = str(path) if path is not None else "flags"
    try:
        # As JSON: in Python mode pydantic's strictness would refuse a mapping for a dataclass.
        text = json.dumps({**values, **flags}, default=str)
        return TypeAdapter(RunConfig).validate_json(text)
    except ValidationError as error:
        known = ", ".join(RunConfig.__dataclass_fields__)
        lines = [f"{where}: {_place(entry['loc'])}: {entry['msg']}" for entry in error.errors()]
        if any(entry["type"] == "unexpected_keyword_argument" for entry in error.errors()):
            lines.append(f"known keys: {known}")
        raise ValueError("\n".join(lines)) from error


def _place(location: tuple[int | str, ...]) -> str:
    # Names of union branches ("MethodConfig", "int") are pydantic's, not the user's.
    branches = ("MethodConfig", "str", "int", "float", "bool", "constrained-int")
    steps = [
        str(s)
        for s in location
        if s not in branches and not str(s).startswith(("literal[", "list["))
    ]
    return ".".join(steps)
