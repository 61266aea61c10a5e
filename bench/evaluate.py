"""Metrics over stored images: each image decoded once, each network once, every miss recorded."""

import hashlib
import logging
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from idbench.canonical import canonical_json, fingerprint
from idbench.executors import run_batches
from idbench.features import FeatureStore, pack, unpack
from idbench.metrics.images import ImageError, read_rgb, sha256_of
from idbench.metrics.protocol import (
    Extractor,
    Features,
    Item,
    Metric,
    Missing,
    MissingValueError,
    Observation,
    Role,
    Subject,
)
from idbench.metrics.registry import build_extractor, extractor_order, resolve
from idbench.progress import Progress
from idbench.prompts.materialise import materialise
from idbench.prompts.sources import resolve as resolve_file
from idbench.prompts.suites import Suite
from idbench.records import Column, Sample, Score
from idbench.store import RunStore

log = logging.getLogger(__name__)

AUTO_BATCH_SIZE = 16
SCORE_CHUNK = 256
# Reasons that lie in the machine or the file system, not in the image: never kept as features,
# and computed again with `retry_failed`.
TRANSIENT = ("error", "unreadable_image", "changed_image")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreOptions:
    """How to score. `base` is the run of the model without identity on the same suite, if any."""

    workspace: Path
    data_root: Path
    batch_size: int | None = None
    workers: int | None = None
    device: str = "cpu"
    dtype: str = "float32"
    base: Path | None = None
    retry_failed: bool = False

    def resolved_workers(self) -> int:
        """The number of processes: one on an accelerator, one per core (at most 8) on the CPU.

        Each process computes with one thread, so that scores do not depend on their number.
        """
        if self.workers is not None:
            return self.workers
        return min(os.cpu_count() or 1, 8) if self.device == "cpu" else 1


@dataclass(frozen=True, slots=True)
class Input:
    """An image or text that extractors read. `key` is the sha256 of the file or of the text."""

    key: str
    path: Path | None = None
    text: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Batch:
    inputs: tuple[Input, ...]
    # Per input: the extractors to run, in order, and packed features of those that were run before.
    wanted: tuple[tuple[str, ...], ...]
    known: tuple[Mapping[str, bytes | Missing], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """What a call did for one run."""

    directory: Path
    columns: tuple[Column, ...]
    scored: int
    kept: int


@dataclass(slots=True)
class _Graph:
    """The extractors that the metrics need, in order, with their fingerprints."""

    metrics: Sequence[Metric]
    order: list[str] = field(default_factory=list)
    extractors: dict[str, Extractor] = field(default_factory=dict)
    details: dict[str, dict[str, object]] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)

    def __init__(self, metrics: Sequence[Metric], device: str, dtype: str) -> None:
        self.metrics = metrics
        names = {name for metric in metrics for needed in metric.needs.values() for name in needed}
        self.order = extractor_order(sorted(names))
        self.extractors, self.details, self.fingerprints = {}, {}, {}
        for name in self.order:
            extractor = build_extractor(name, device=device, dtype=dtype)
            needs = {need: self.details[need] for need in extractor.needs}
            details = dict(extractor.fingerprint()) | ({"needs": needs} if needs else {})
            self.extractors[name], self.details[name] = extractor, details
            self.fingerprints[name] = fingerprint(details)

    def closure(self, names: Iterable[str]) -> list[str]:
        wanted = set(extractor_order(sorted(names)))
        return [name for name in self.order if name in wanted]


def columns_of(metric: Metric, details: Mapping[str, object]) -> tuple[Column, ...]:
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
        WorkerDiedError: If a worker process died.
    """
    graph = _Graph(resolve(metrics), options.device, options.dtype)
    with ExitStack() as stack:
        features = FeatureStore(options.workspace / "features.sqlite")
        stack.callback(features.close)
        base = stack.enter_context(RunStore.open(options.base)) if options.base else None
        jobs = []
        for directory, suite in runs:
            materialise(suite, options.data_root)
            store = stack.enter_context(RunStore.open(directory))
            stack.enter_context(store.writing())
            jobs.append(_Job(store, suite, graph, options, base))
        losses = _extract(jobs, graph, features, options)
        total = sum(len(job.todo) for job in jobs)
        with Progress("score", total, "samples") as progress:
            return [job.score(features, losses, progress) for job in jobs]


_Losses = Mapping[str, Mapping[str, Missing]]


class _Job:
    """One run to score: which samples lack which columns, and what each observation reads."""

    def __init__(
        self,
        store: RunStore,
        suite: Suite,
        graph: _Graph,
        options: ScoreOptions,
        base: RunStore | None,
    ) -> None:
        self.store, self.graph, self.data_root = store, graph, options.data_root
        retry = TRANSIENT if options.retry_failed else ()
        self.suite = suite
        self.base = {(s.case_id, s.sample): s for s in base.samples("ok")} if base else {}
        self.base_directory = base.directory if base else None
        base_key = base.identity.key if base else None
        self.columns = [
            columns_of(metric, _details(metric, graph, base_key)) for metric in graph.metrics
        ]
        self.roles: dict[Role, list[str]] = {}
        for metric in graph.metrics:
            for role, names in metric.needs.items():
                self.roles[role] = graph.closure([*self.roles.get(role, []), *names])
        samples = [s for s in store.samples() if s.status != "pending"]
        self.missing: list[set[tuple[str, int]]] = []
        for columns in self.columns:
            have = [store.scored(c.name, c.fingerprint, retry=retry) for c in columns]
            done = set.intersection(*have)
            self.missing.append({(s.case_id, s.sample) for s in samples} - done)
        wanted = set().union(*self.missing)
        self.todo = [s for s in samples if (s.case_id, s.sample) in wanted]
        self.kept = len(samples) - len(self.todo)

    def inputs(self, sample: Sample) -> dict[Role, list[Input]]:
        """What the observation of a sample reads, per role that the metrics ask for."""
        case = self.suite.case(sample.case_id)
        found: dict[Role, list[Input]] = {}
        for role in self.roles:
            match role:
                case "generated":
                    found[role] = _stored(self.store.directory, sample)
                case "base":
                    other = self.base.get((sample.case_id, sample.sample))
                    directory = self.base_directory
                    found[role] = _stored(directory, other) if other and directory else []
                case "reference":
                    found[role] = [
                        Input(ref.sha256, path=resolve_file(ref, ref.source, self.data_root))
                        for ref in case.references
                    ]
                case "ground_truth":
                    truth = case.ground_truth
                    source = case.references[0].source if case.references else ""
                    found[role] = self._files([truth] if truth else [], source)
                case "original" | "edited":
                    edit = case.edit
                    file = edit and (edit.original if role == "original" else edit.edited)
                    found[role] = self._files([file] if file else [], edit.source if edit else "")
                case "prompt":
                    found[role] = [_text(case.prompt)]
                case "element":
                    elements = case.edit.elements if case.edit else ()
                    found[role] = [_text(element.text) for element in elements]
        return found

    def _files(self, files: Sequence[Any], source: str) -> list[Input]:
        return [
            Input(file.sha256, path=resolve_file(file, source, self.data_root)) for file in files
        ]

    def score(self, features: FeatureStore, losses: _Losses, progress: Progress) -> Scored:
        """Scores what is missing, in chunks, each recorded in one transaction."""
        self.store.add_columns(column for columns in self.columns for column in columns)
        for start in range(0, len(self.todo), SCORE_CHUNK):
            chunk = self.todo[start : start + SCORE_CHUNK]
            reads = {(s.case_id, s.sample): self.inputs(s) for s in chunk if s.status == "ok"}
            found = self._features(reads.values(), features)
            for name, lost in losses.items():
                found[name] = {**lost, **found.get(name, {})}
            scores: list[Score] = []
            for sample in chunk:
                place = (sample.case_id, sample.sample)
                observation = (
                    self._observation(sample, reads[place], found) if place in reads else None
                )
                for metric, columns, missing in zip(
                    self.graph.metrics, self.columns, self.missing, strict=True
                ):
                    if place in missing:
                        scores += _scores(metric, columns, sample, observation)
            self.store.add_scores(scores)
            progress.advance(len(chunk))
        return Scored(
            directory=self.store.directory,
            columns=tuple(column for columns in self.columns for column in columns),
            scored=len(self.todo),
            kept=self.kept,
        )

    def _features(
        self, reads: Iterable[Mapping[Role, Sequence[Input]]], features: FeatureStore
    ) -> dict[str, dict[str, Features | Missing]]:
        """Extractor name to input key to features, for all that a chunk reads."""
        keys: dict[str, set[str]] = defaultdict(set)
        for read in reads:
            for role, inputs in read.items():
                for name in self.roles[role]:
                    keys[name] |= {entry.key for entry in inputs}
        return {
            name: features.get(wanted, self.graph.fingerprints[name])
            for name, wanted in keys.items()
        }

    def _observation(
        self,
        sample: Sample,
        read: Mapping[Role, Sequence[Input]],
        found: Mapping[str, Mapping[str, Features | Missing]],
    ) -> Observation:
        case = self.suite.case(sample.case_id)
        unknown = Missing("error", "the extractor gave nothing; run again with --retry-failed")
        return Observation(
            prompt=case.prompt,
            features={
                role: tuple(
                    {name: found[name].get(entry.key, unknown) for name in self.roles[role]}
                    for entry in inputs
                )
                for role, inputs in read.items()
            },
            subjects=tuple(
                Subject(
                    person=person.person,
                    expression=person.expression,
                    orientation=person.orientation,
                    box=person.box,
                )
                for person in case.people
            ),
        )


def _details(metric: Metric, graph: _Graph, base_key: str | None) -> dict[str, object]:
    details: dict[str, object] = {
        "metric": metric.info.name,
        "protocol": metric.info.protocol,
        "backend": metric.info.backend,
        "version": metric.version,
        "extractors": {
            role: {name: graph.details[name] for name in names}
            for role, names in metric.needs.items()
        },
    }
    return details | ({"base": base_key} if "base" in metric.needs else {})


def _stored(directory: Path, sample: Sample) -> list[Input]:
    if sample.path is None or sample.sha256 is None:
        return []
    return [Input(sample.sha256, path=directory / sample.path)]


def _text(text: str) -> Input:
    return Input(hashlib.sha256(text.encode()).hexdigest(), text=text)


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


def _extract(
    jobs: Sequence[_Job], graph: _Graph, features: FeatureStore, options: ScoreOptions
) -> _Losses:
    """Runs every extractor over every input that lacks its features, each input decoded once.

    Returns, per extractor, the inputs that gave none for a reason that is not theirs.
    """
    wanted: dict[str, set[str]] = defaultdict(set)
    inputs: dict[str, Input] = {}
    for job in jobs:
        for sample in job.todo:
            if sample.status != "ok":
                continue
            for role, entries in job.inputs(sample).items():
                for entry in entries:
                    inputs[entry.key] = entry
                    wanted[entry.key].update(job.roles[role])
    for name in graph.order:
        of_name = [key for key, names in wanted.items() if name in names]
        for key in features.known(of_name, graph.fingerprints[name]):
            wanted[key].discard(name)
    pending = sorted(key for key, names in wanted.items() if names)
    factory = partial(_Extractors, tuple(graph.order), options.device, options.dtype)
    batches = _batches(pending, inputs, wanted, graph, features, options.batch_size)
    losses: dict[str, dict[str, Missing]] = defaultdict(dict)
    with Progress("extract", len(pending), "inputs") as progress:
        for results in run_batches(batches, factory, workers=options.resolved_workers()):
            keep = {}
            for key, found in results.items():
                for name, value in found.items():
                    if isinstance(value, Missing) and value.reason in TRANSIENT:
                        losses[name][key] = value
                    else:
                        keep[key, graph.fingerprints[name]] = value
            features.put(keep)
            progress.advance(len(results))
    return losses


def _batches(
    pending: Sequence[str],
    inputs: Mapping[str, Input],
    wanted: Mapping[str, set[str]],
    graph: _Graph,
    features: FeatureStore,
    batch_size: int | None,
) -> Iterator[_Batch]:
    size = batch_size or AUTO_BATCH_SIZE
    for start in range(0, len(pending), size):
        keys = pending[start : start + size]
        known: list[dict[str, bytes | Missing]] = [{} for _ in keys]
        for place, key in enumerate(keys):
            needed = {n for name in wanted[key] for n in graph.extractors[name].needs}
            for name in needed - wanted[key]:
                value = features.get([key], graph.fingerprints[name]).get(key)
                if value is not None and not isinstance(value, Missing):
                    known[place][name] = pack(value)
        yield _Batch(
            inputs=tuple(inputs[key] for key in keys),
            wanted=tuple(tuple(n for n in graph.order if n in wanted[key]) for key in keys),
            known=tuple(known),
        )


class _Extractors:
    """The worker: holds the networks, decodes a batch once and passes it through each of them."""

    def __init__(self, order: Sequence[str], device: str, dtype: str) -> None:
        self._order = order
        self._extractors = {
            name: build_extractor(name, device=device, dtype=dtype) for name in order
        }
        if device == "cpu":
            _use_one_thread()

    def __call__(self, batch: _Batch) -> dict[str, dict[str, bytes | Missing]]:
        found: list[dict[str, Features | Missing]] = [
            {
                name: data if isinstance(data, Missing) else unpack(data)
                for name, data in known.items()
            }
            for known in batch.known
        ]
        images: list[Any] = []
        for entry in batch.inputs:
            images.append(_read(entry))
        for name in self._order:
            extractor = self._extractors[name]
            places, items = [], []
            for place, (entry, wanted) in enumerate(zip(batch.inputs, batch.wanted, strict=True)):
                if name not in wanted:
                    continue
                needed = {need: found[place].get(need) for need in extractor.needs}
                lost = next((v for v in needed.values() if isinstance(v, Missing)), None)
                if isinstance(images[place], Missing):
                    found[place][name] = images[place]
                elif lost is not None:
                    found[place][name] = lost
                else:
                    places.append(place)
                    features: Any = needed
                    items.append(Item(image=images[place], text=entry.text, features=features))
            for place, value in zip(places, _run(extractor, items), strict=True):
                found[place][name] = value
        return {
            entry.key: {
                name: value if isinstance(value, Missing) else pack(value)
                for name, value in of_input.items()
                if name in wanted
            }
            for entry, wanted, of_input in zip(batch.inputs, batch.wanted, found, strict=True)
        }


def _read(entry: Input) -> Any:
    """The pixels of an image input, None for a text, or why there are none."""
    if entry.path is None:
        return None
    try:
        if sha256_of(entry.path) != entry.key:
            return Missing("changed_image", f"{entry.path} is not the file that was recorded")
        return read_rgb(entry.path)
    except (ImageError, OSError) as error:
        return Missing("unreadable_image", str(error))


def _run(extractor: Extractor, items: Sequence[Item]) -> list[Features | Missing]:
    """Features per item; an item on which the extractor raises gets the error as its reason."""
    if not items:
        return []
    try:
        return list(extractor(items))
    except Exception as error:  # one bad input must not cost the others theirs
        if len(items) > 1:
            return [_run(extractor, [item])[0] for item in items]
        log.warning("extractor %s failed", extractor.name, exc_info=True)
        return [Missing("error", f"{extractor.name}: {type(error).__name__}: {error}"[:2000])]


def _use_one_thread() -> None:
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(1)
