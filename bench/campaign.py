"""What a campaign will cost before it is paid for: GPU-hours, wall time, storage, bottleneck.

The model is arithmetic on measured costs. Every method on every suite is a run of its own, one
after another, on all workers that the cluster holds. A run loads its weights once per worker, then
its images are dealt out in waves; the last wave may leave workers idle. Scoring follows, or goes
on beside it if the campaign overlaps. Disks limit both. Failures, queues and other users of the
cluster are not in it.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from idbench.methods.common.yaml_text import read_yaml
from idbench.prompts.suites import load_suite
from idbench.store import RunStore

_STRICT = ConfigDict(extra="forbid", strict=True)

Count = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=64)]


@dataclass(frozen=True, kw_only=True, slots=True)
class SuiteLoad:
    """A suite by name and the images that one method makes of it."""

    __pydantic_config__ = _STRICT

    name: str
    images: Count


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodCost:
    """What one image costs. `gpus` and `cpus` are what a worker takes.

    The cost is given as numbers, or measured on a `run` that was made on such a device.
    `images_at_once` is the batch that `seconds_per_image` was measured in: a worker is busy with
    whole batches.
    """

    __pydantic_config__ = _STRICT

    name: str
    seconds_per_image: Positive | None = None
    megabytes_per_image: NotNegative | None = None
    run: str | None = None
    load_seconds: NotNegative = 0.0
    gpus: Share = 1.0
    cpus: Share = 1.0
    images_at_once: Count = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoringCost:
    """What scoring one image costs in all networks, and what its features take on disk."""

    __pydantic_config__ = _STRICT

    seconds_per_image: NotNegative
    megabytes_per_image: NotNegative = 0.0
    load_seconds: NotNegative = 0.0
    gpus: Share = 0.25
    cpus: Share = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """What there is. The write rate is that of all nodes together onto the shared storage."""

    __pydantic_config__ = _STRICT

    nodes: Count
    gpus_per_node: Annotated[int, Field(ge=0)]
    cpus_per_node: Count = 1
    write_megabytes_per_second: Positive | None = None
    storage_gigabytes: Positive | None = None
    price_per_gpu_hour: NotNegative | None = None

    def workers(self, gpus: float, cpus: float) -> int:
        """How many workers fit that take this much each; a share of a GPU lies within one GPU."""
        by_cpu = math.floor(self.cpus_per_node / cpus + 1e-9) if cpus else math.inf
        if gpus == 0:
            by_gpu = math.inf
        elif gpus < 1:
            by_gpu = self.gpus_per_node * math.floor(1 / gpus + 1e-9)
        else:
            by_gpu = math.floor(self.gpus_per_node / gpus + 1e-9)
        here = min(by_cpu, by_gpu)
        if here == math.inf:
            raise ValueError("a worker that takes neither a GPU nor a CPU has no number")
        return self.nodes * int(here)


@dataclass(frozen=True, kw_only=True, slots=True)
class Campaign:
    """Methods x suites on a cluster. `overlap` scores images while others are made."""

    __pydantic_config__ = _STRICT

    suites: Annotated[list[str | SuiteLoad], Field(min_length=1)]
    methods: Annotated[list[MethodCost], Field(min_length=1)]
    cluster: Cluster
    scoring: ScoringCost | None = None
    overlap: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One stage of one run: how long it takes, and what keeps it."""

    workers: int
    seconds: float
    gpu_seconds: float  # busy or loading
    load: float  # seconds of `seconds` spent loading
    idle: float  # seconds of `seconds` in which the last wave left workers idle, on average
    limited_by_disk: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulatedRun:
    """One method on one suite."""

    method: str
    suite: str
    images: int
    generation: Stage
    scoring: Stage | None
    seconds: float
    megabytes: float


Bottleneck = Literal["generation", "loading", "last wave", "scoring", "disk writes"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Simulation:
    """The whole campaign. `parts` are the seconds by cause; the largest is the bottleneck."""

    runs: list[SimulatedRun]
    gpu_hours: float
    gpu_hours_reserved: float  # all GPUs of the cluster for the wall time
    wall_hours: float
    gigabytes: float
    price: float | None
    parts: Mapping[Bottleneck, float] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    @property
    def bottleneck(self) -> Bottleneck:
        """What most of the wall time goes to."""
        return max(self.parts, key=lambda cause: self.parts[cause])


def read_campaign(path: Path) -> Campaign:
    """Reads a campaign from YAML.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no YAML mapping, or a key is unknown, missing or of a wrong type; the
            message names file and key.
    """
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no campaign {path}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must be a mapping with suites, methods and cluster")
    try:
        return TypeAdapter(Campaign).validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        hidden = ("SuiteLoad", "str")
        lines = [
            f"{path}: {'.'.join(str(s) for s in entry['loc'] if s not in hidden)}: {entry['msg']}"
            for entry in error.errors()
        ]
        raise ValueError("\n".join(lines)) from error


def simulate(campaign: Campaign, data_root: Path) -> Simulation:
    """The cost of a campaign.

    Raises:
        ValueError: If a worker does not fit on a node, or a cost is not given.
        LookupError: If a suite is unknown.
        RunError: If a run to measure on is none.
    """
    cluster = campaign.cluster
    suites = [_load(entry, data_root) for entry in campaign.suites]
    runs = [
        _run(_measured(method), suite, campaign) for method in campaign.methods for suite in suites
    ]
    wall = sum(run.seconds for run in runs)
    gigabytes = sum(run.megabytes for run in runs) / 1000
    stages = [stage for run in runs for stage in (run.generation, run.scoring) if stage]
    gpu_hours = sum(stage.gpu_seconds for stage in stages) / 3600
    price = cluster.price_per_gpu_hour
    reserved = cluster.nodes * cluster.gpus_per_node * wall / 3600
    warnings = []
    if cluster.storage_gigabytes is not None and gigabytes > cluster.storage_gigabytes:
        warnings.append(
            f"{gigabytes:.1f} GB do not fit on {cluster.storage_gigabytes:.1f} GB of storage"
        )
    return Simulation(
        runs=runs,
        gpu_hours=gpu_hours,
        gpu_hours_reserved=reserved,
        wall_hours=wall / 3600,
        gigabytes=gigabytes,
        price=None if price is None else price * reserved,
        parts=_parts(runs),
        warnings=warnings,
    )


def _load(entry: str | SuiteLoad, data_root: Path) -> SuiteLoad:
    if isinstance(entry, SuiteLoad):
        return entry
    suite = load_suite(entry, data_root=data_root)
    return SuiteLoad(name=suite.name, images=suite.distinct * suite.samples_per_case)


def _measured(method: MethodCost) -> MethodCost:
    """The method with what its run says where no number is given."""
    if method.run is None:
        if method.seconds_per_image is None:
            raise ValueError(f"method {method.name}: give seconds_per_image, or a run to measure")
        return method
    with RunStore.open(Path(method.run)) as store:
        count, seconds, size = 0, 0.0, 0
        for sample in store.walk(("ok",)):
            path = store.directory / str(sample.path)
            if sample.seconds is not None and path.is_file():
                count, seconds = count + 1, seconds + sample.seconds
                size += path.stat().st_size
    if not count:
        raise ValueError(f"method {method.name}: run {method.run} has no images to measure")
    own_seconds, own_size = method.seconds_per_image, method.megabytes_per_image
    return MethodCost(
        name=method.name,
        seconds_per_image=seconds / count if own_seconds is None else own_seconds,
        megabytes_per_image=size / count / 1e6 if own_size is None else own_size,
        load_seconds=method.load_seconds,
        gpus=method.gpus,
        cpus=method.cpus,
        images_at_once=method.images_at_once,
    )


def _run(method: MethodCost, suite: SuiteLoad, campaign: Campaign) -> SimulatedRun:
    cluster, scoring = campaign.cluster, campaign.scoring
    megabytes = suite.images * (method.megabytes_per_image or 0.0)
    generation = _stage(
        f"method {method.name}",
        cluster,
        images=suite.images,
        seconds=method.seconds_per_image or 0.0,
        at_once=method.images_at_once,
        load=method.load_seconds,
        gpus=method.gpus,
        cpus=method.cpus,
        megabytes=megabytes,
    )
    if scoring is None:
        return SimulatedRun(
            method=method.name,
            suite=suite.name,
            images=suite.images,
            generation=generation,
            scoring=None,
            seconds=generation.seconds,
            megabytes=megabytes,
        )
    features = suite.images * scoring.megabytes_per_image
    scored = _stage(
        "scoring",
        cluster,
        images=suite.images,
        seconds=scoring.seconds_per_image,
        at_once=1,
        load=scoring.load_seconds,
        gpus=scoring.gpus,
        cpus=scoring.cpus,
        megabytes=features,
    )
    both = (generation.seconds, scored.seconds)
    return SimulatedRun(
        method=method.name,
        suite=suite.name,
        images=suite.images,
        generation=generation,
        scoring=scored,
        seconds=max(both) if campaign.overlap else sum(both),
        megabytes=megabytes + features,
    )


def _stage(
    what: str,
    cluster: Cluster,
    *,
    images: int,
    seconds: float,
    at_once: int,
    load: float,
    gpus: float,
    cpus: float,
    megabytes: float,
) -> Stage:
    workers = cluster.workers(gpus, cpus)
    if workers == 0:
        raise ValueError(
            f"{what}: a worker takes {gpus:g} GPUs and {cpus:g} CPUs, a node has "
            f"{cluster.gpus_per_node} and {cluster.cpus_per_node}"
        )
    batches = math.ceil(images / at_once)
    workers = min(workers, batches)
    busy = math.ceil(batches / workers) * at_once * seconds
    ideal = images * seconds / workers
    writing = megabytes / (cluster.write_megabytes_per_second or math.inf)
    limited = writing > load + busy
    return Stage(
        workers=workers,
        seconds=max(load + busy, writing),
        gpu_seconds=gpus * (images * seconds + workers * load),
        load=load,
        idle=busy - ideal,
        limited_by_disk=limited,
    )


def _parts(runs: Sequence[SimulatedRun]) -> dict[Bottleneck, float]:
    """The wall time by what it is spent on."""
    parts: dict[Bottleneck, float] = {
        "generation": 0.0,
        "loading": 0.0,
        "last wave": 0.0,
        "scoring": 0.0,
        "disk writes": 0.0,
    }
    for run in runs:
        left = run.seconds
        if run.scoring is not None:
            # What overlapped scoring adds is the time in which nothing is generated any more.
            added = max(0.0, run.seconds - run.generation.seconds)
            cause: Bottleneck = "disk writes" if run.scoring.limited_by_disk else "scoring"
            parts[cause] += added
            left -= added
        if run.generation.limited_by_disk:
            parts["disk writes"] += left
        else:
            parts["loading"] += run.generation.load
            parts["last wave"] += run.generation.idle
            parts["generation"] += left - run.generation.load - run.generation.idle
    return parts
