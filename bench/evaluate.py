"""Metrics over stored images: each image decoded once, each network once, every miss recorded."""

import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from idbench.canonical import canonical_json, fingerprint
from idbench.devices import devices_of
from idbench.executors import RayOptions
from idbench.extraction import TRANSIENT, ExtractOptions, Graph, Input, Losses, extract
from idbench.features import FeatureStore
from idbench.metrics.protocol import Metric, Missing, MissingValueError, Observation, SetMetric
from idbench.metrics.registry import resolve, resolve_sets
from idbench.observations import Observer
from idbench.progress import Progress
from idbench.prompts.materialise import materialise
from idbench.prompts.suites import Suite
from idbench.records import Column, Sample, Score
from idbench.set_scores import compute_set_scores, inputs_of
from idbench.store import RunStore
from idbench.work_queue import never

log = logging.getLogger(__name__)

SCORE_CHUNK = 256
# A mask may be imported after an image was scored without one.
_MAY_COME = ("no_mask",)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreOptions:
    """How to score.

    `base` is the run of the model without identity on the same suite, if any. `device` may list
    several ("cuda:0,cuda:1"). `timeout` is the longest that a batch of images may take in all
    networks, in seconds. With `ray` the networks run on a Ray cluster whose nodes see the images.
    """

    workspace: Path
    data_root: Path
    batch_size: int | None = None
    workers: int | None = None
    device: str = "cpu"
    dtype: str = "float32"
    base: Path | None = None
    retry_failed: bool = False
    timeout: float | None = None
    ray: RayOptions | None = None
    stop: Callable[[], bool] = never

    def devices(self) -> tuple[str, ...]:
        """One device per worker, in turn; on Ray each worker sees only its own."""
        if self.ray is not None:
            return (self.device.partition(":")[0],)
        return devices_of(self.device)

    def extract_options(self) -> ExtractOptions:
        """Where the networks run."""
        return ExtractOptions(
            batch_size=self.batch_size,
            workers=self.resolved_workers(),
            devices=self.devices(),
            timeout=self.timeout,
            ray=self.ray,
            stop=self.stop,
        )

    def resolved_workers(self) -> int:
        """The number of processes: one per accelerator, one per core (at most 8) on the CPU.

        Each process computes with one thread, so that scores do not depend on their number. On Ray
        it is 0, as many as the cluster has room for.
        """
        if self.workers is not None:
            return self.workers
        if self.ray is not None:
            return 0
        return min(os.cpu_count() or 1, 8) if self.device == "cpu" else len(self.devices())


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """What a call did for one run."""

    directory: Path
    columns: tuple[Column, ...]
    scored: int
    kept: int


def columns_of(metric: Metric | SetMetric, details: Mapping[str, object]) -> tuple[Column, ...]:
    """The columns of a metric; `details` is what its fingerprint is made of."""
    info = metric.info
    return tuple(
        Column(
            name=name,
            fingerprint=fingerprint(details),
            unit=info.unit,
            higher_is_better=info.higher_is_better,
            low=info.bounds[0],
            high=info.bounds[1],
            axis=info.axis,
            comparable_to_published=info.comparable_to_published,
            details=canonical_json(details),
            chance=info.chance,
        )
        for name in info.columns()
    )


def score(
    runs: Sequence[tuple[Path, Suite]], metrics: Sequence[str], options: ScoreOptions
) -> list[Scored]:
    """Scores what has no score yet; features and scores that are there are not computed again.

    A sample without an image gets the reason "no_image" in every column; one that a metric cannot
    score gets that metric's reason. Nothing is dropped.

    Raises:
        LookupError: If a metric is unknown or ambiguous.
        FileNotFoundError: If weights or reference files are absent.
        StorageError: If the disk refuses; what was recorded stays.
        WorkerDiedError: If workers die before they are ready.
        KeyboardInterrupt: If `stop` said so, when all that had begun is stored.
    """
    chosen, sets = resolve(metrics), resolve_sets(metrics)
    needs = [*(metric.needs for metric in chosen), *(metric.needs for metric in sets)]
    names = {name for need in needs for extractors in need.values() for name in extractors}
    graph = Graph(names, options.devices()[0], options.dtype)
    with ExitStack() as stack:
        features = FeatureStore(options.workspace / "features.sqlite")
        stack.callback(features.close)
        base = stack.enter_context(RunStore.open(options.base)) if options.base else None
        jobs = []
        for directory, suite in runs:
            materialise(suite, options.data_root)
            store = stack.enter_context(RunStore.open(directory))
            stack.enter_context(store.writing())
            reader = Observer(store, suite, needs, graph, options.data_root, base)
            retry = (*_MAY_COME, *(TRANSIENT if options.retry_failed else ()))
            jobs.append(_Job(store, reader, chosen, sets, retry))
        losses = extract(
            (wanted for job in jobs for wanted in job.wanted()),
            graph,
            features,
            options.extract_options(),
        )
        if options.stop():
            raise KeyboardInterrupt
        total = sum(len(job.todo) + job.set_samples for job in jobs)
        with Progress("score", total, "samples") as progress:
            return [job.score(features, losses, progress) for job in jobs]


class _Job:
    """One run to score: which samples lack which columns."""

    def __init__(
        self,
        store: RunStore,
        reader: Observer,
        metrics: Sequence[Metric],
        sets: Sequence[SetMetric],
        retry: Sequence[str],
    ) -> None:
        self.store, self.reader, self.metrics = store, reader, metrics
        self.columns = [columns_of(metric, _details(metric, reader)) for metric in metrics]
        samples = [s for s in store.samples() if s.status != "pending"]
        self.missing: list[set[tuple[str, int]]] = []
        for columns in self.columns:
            planned = {(s.case_id, s.sample) for s in samples}
            done = set(planned)
            for column in columns:
                done &= store.scored(column.name, column.fingerprint, retry=retry)
            self.missing.append(planned - done)
        wanted = set().union(*self.missing)
        self.todo = [s for s in samples if (s.case_id, s.sample) in wanted]
        self.kept = len(samples) - len(self.todo)
        inputs = inputs_of(store.samples(), reader)
        set_columns = [(metric, columns_of(metric, _details(metric, reader))) for metric in sets]
        self.stale_sets = [
            (metric, columns)
            for metric, columns in set_columns
            if any(store.set_inputs(c.name, c.fingerprint) != inputs for c in columns)
        ]
        self.set_samples = len(self.stale_sets) * len(store.samples())

    def wanted(self) -> Iterator[tuple[Input, Sequence[str]]]:
        """The inputs of all observations to score, with the extractors to run over each."""
        for sample in self.store.samples("ok") if self.stale_sets else self.todo:
            if sample.status == "ok":
                for role, inputs in self.reader.inputs(sample).items():
                    for entry in inputs:
                        yield entry, self.reader.roles[role]

    def score(self, features: FeatureStore, losses: Losses, progress: Progress) -> Scored:
        """Scores what is missing, in chunks, each recorded in one transaction."""
        self.store.add_columns(column for columns in self.columns for column in columns)
        for start in range(0, len(self.todo), SCORE_CHUNK):
            chunk = self.todo[start : start + SCORE_CHUNK]
            made = [sample for sample in chunk if sample.status == "ok"]
            observations = self.reader.observations(made, features, losses)
            scores: list[Score] = []
            for sample in chunk:
                place = (sample.case_id, sample.sample)
                for metric, columns, missing in zip(
                    self.metrics, self.columns, self.missing, strict=True
                ):
                    if place in missing:
                        scores += _scores(metric, columns, sample, observations.get(place))
            self.store.add_scores(scores)
            progress.advance(len(chunk))
        for set_metric, columns in self.stale_sets:
            self.store.add_set_scores(
                compute_set_scores(
                    self.store, self.reader, set_metric, columns, features, losses, progress
                )
            )
        return Scored(
            directory=self.store.directory,
            columns=tuple(column for columns in self.columns for column in columns),
            scored=len(self.todo),
            kept=self.kept,
        )


def _details(metric: Metric | SetMetric, reader: Observer) -> dict[str, object]:
    details: dict[str, object] = {
        "metric": metric.info.name,
        "protocol": metric.info.protocol,
        "backend": metric.info.backend,
        "version": metric.version,
        "extractors": {
            role: {name: reader.graph.details[name] for name in names}
            for role, names in metric.needs.items()
        },
    }
    return details | ({"base": reader.base_key} if "base" in metric.needs else {})


def _scores(
    metric: Metric, columns: Sequence[Column], sample: Sample, observation: Observation | None
) -> list[Score]:
    values: Mapping[str, float | Missing]
    if observation is None:
        lost = Missing("no_image", f"{sample.reason}: {sample.detail}")
        values = dict.fromkeys(metric.info.variants, lost)
    else:
        try:
            values = metric(observation)
        except MissingValueError as error:
            values = dict.fromkeys(metric.info.variants, error.missing)
        except Exception as error:  # a metric that raises loses this value, not the run
            log.warning("%s failed on %s", metric.info.name, sample.case_id, exc_info=True)
            lost = Missing("error", f"{type(error).__name__}: {error}"[:2000])
            values = dict.fromkeys(metric.info.variants, lost)
    rows = []
    for variant, column in zip(metric.info.variants, columns, strict=True):
        value = values[variant]
        if not isinstance(value, Missing) and not math.isfinite(value):
            value = Missing("not_finite", f"the metric gave {value}")
        lost_value = value if isinstance(value, Missing) else None
        rows.append(
            Score(
                case_id=sample.case_id,
                sample=sample.sample,
                column=column.name,
                fingerprint=column.fingerprint,
                value=None if isinstance(value, Missing) else float(value),
                reason=lost_value.reason if lost_value else None,
                detail=lost_value.detail if lost_value else None,
            )
        )
    return rows
