"""Networks over inputs: each file decoded once, each network once per input, in batches.

What was found is kept by content in the feature store; only what is missing there is computed.
"""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from idbench.canonical import fingerprint
from idbench.executors import RayOptions, run_batches
from idbench.features import FeatureStore, pack, unpack
from idbench.generation_worker import free_memory, is_out_of_memory
from idbench.masks import StoredMask, read_mask
from idbench.metrics.images import ImageError, read_rgb, sha256_of
from idbench.metrics.protocol import Extractor, Features, Item, Missing
from idbench.metrics.registry import build_extractor, extractor_order
from idbench.progress import Progress
from idbench.work_queue import never

log = logging.getLogger(__name__)

AUTO_BATCH_SIZE = 16
AUTO_BATCH_SIZE_ON_DEVICE = 64
# Reasons that lie in the machine or the file system, not in the image: never kept as features.
TRANSIENT = ("error", "unreadable_image", "changed_image", "poison")

Build = Callable[..., Extractor]  # (name, *, device, dtype)
Lookup = Mapping[str, Mapping[str, Features | Missing]]  # extractor -> key -> what it found
Losses = Mapping[str, Mapping[str, Missing]]


@dataclass(frozen=True, slots=True)
class Input:
    """An image or a text to read. `key` is the sha256 of the file, or of the text.

    The `text` of an image is the prompt it was made for and `subject` the word for what it shows,
    which some networks read beside it, as is its `mask`.
    """

    key: str
    path: Path | None = None
    text: str | None = None
    subject: str | None = None
    mask: StoredMask | None = None


def text_input(text: str) -> Input:
    """A text as an input."""
    return Input(hashlib.sha256(text.encode()).hexdigest(), text=text)


class Graph:
    """The extractors that some names need, in order, with what their numbers depend on."""

    def __init__(
        self, names: Iterable[str], device: str, dtype: str, build: Build | None = None
    ) -> None:
        """Builds the extractors, which loads no network yet.

        `build` makes an extractor by name, by default that of the registry; workers call it too.

        Raises:
            LookupError: If a name is unknown.
            OSError: If weights are absent, with the command that gets them.
        """
        self.device, self.dtype = device, dtype
        self.build: Build = build or build_extractor
        self.order = extractor_order(sorted(set(names)))
        self.extractors: dict[str, Extractor] = {}
        self.details: dict[str, dict[str, object]] = {}
        self.fingerprints: dict[str, str] = {}
        for name in self.order:
            extractor = self.build(name, device=device, dtype=dtype)
            needs = {need: self.details[need] for need in extractor.needs}
            details = dict(extractor.fingerprint()) | ({"needs": needs} if needs else {})
            self.extractors[name], self.details[name] = extractor, details
            self.fingerprints[name] = fingerprint(details)

    def closure(self, names: Iterable[str]) -> list[str]:
        """The extractors of `names` and all that they need, in order."""
        wanted = set(extractor_order(sorted(set(names))))
        return [name for name in self.order if name in wanted]

    def key(self, name: str, entry: Input) -> str:
        """Under which key extractor `name` keeps what it finds in an input."""
        reads = self.extractors[name].reads
        if reads in ("image", "text"):
            return entry.key
        beside = self.text(name, entry)
        if reads == "image_mask":
            beside = entry.mask.sha256 if entry.mask else None
        return hashlib.sha256(f"{entry.key}:{beside}".encode()).hexdigest()

    def text(self, name: str, entry: Input) -> str | None:
        """The text that extractor `name` reads of an input."""
        return entry.subject if self.extractors[name].reads == "image_subject" else entry.text


@dataclass(frozen=True, slots=True)
class _Pass:
    """One extractor over one input; `text` only for an extractor that reads it."""

    extractor: str
    key: str
    text: str | None


@dataclass(frozen=True, slots=True)
class _Task:
    """All passes over one file or text, and packed features of earlier ones that they need."""

    input: Input
    passes: tuple[_Pass, ...]
    known: Mapping[str, bytes | Missing]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtractOptions:
    """Where the networks run; results do not depend on it.

    `batch_size` is the most inputs that are decoded at once, None a default; a network for which
    they are too many gets fewer. `devices` are given to the workers in turn, by default that of
    the graph. `timeout`, `ray` and `stop` are those of `run_batches`.
    """

    batch_size: int | None = None
    workers: int = 1
    devices: tuple[str, ...] = ()
    timeout: float | None = None
    ray: RayOptions | None = None
    in_process: bool = True
    stop: Callable[[], bool] = never


Wanted = Iterable[tuple[Input, Sequence[str]]]  # inputs, with the extractors to run over each


def extract(
    wanted: Wanted, graph: Graph, features: FeatureStore, options: ExtractOptions
) -> Losses:
    """Runs each extractor over each input that lacks its features.

    Returns, per extractor, the keys that gave none for a reason that is not theirs.

    Raises:
        StorageError: If the disk refuses; what was stored stays.
        WorkerDiedError: If workers die before they are ready.
    """
    inputs, pending = _pending(wanted, graph, features)
    losses: dict[str, dict[str, Missing]] = defaultdict(dict)
    batches = _batches(inputs, pending, graph, features, _size(options, graph))
    with Progress("extract", len(pending), "inputs") as progress:
        for count, lost in _store(batches, graph, features, options):
            for name, of_name in lost.items():
                losses[name].update(of_name)
            progress.advance(count)
    return losses


def extract_as_they_come(
    groups: Iterable[Wanted], graph: Graph, features: FeatureStore, options: ExtractOptions
) -> None:
    """Runs extractors over groups of inputs that become known one after another.

    What is lost here is for `extract` to try again and to say why.

    Raises:
        StorageError: If the disk refuses; what was stored stays.
        WorkerDiedError: If workers die before they are ready.
    """

    def batches() -> Iterator[list[_Task]]:
        begun: set[tuple[str, str]] = set()
        for group in groups:
            inputs, pending = _pending(group, graph, features)
            fresh = {
                key: {place: text for place, text in passes.items() if place not in begun}
                for key, passes in pending.items()
            }
            begun.update(place for passes in fresh.values() for place in passes)
            waiting = {key: passes for key, passes in fresh.items() if passes}
            yield from _batches(inputs, waiting, graph, features, _size(options, graph))

    for _ in _store(batches(), graph, features, options):
        pass


def _size(options: ExtractOptions, graph: Graph) -> int:
    if options.batch_size is not None:
        return options.batch_size
    return AUTO_BATCH_SIZE if graph.device.startswith("cpu") else AUTO_BATCH_SIZE_ON_DEVICE


def _store(
    batches: "Iterable[list[_Task]]", graph: Graph, features: FeatureStore, options: ExtractOptions
) -> Iterator[tuple[int, dict[str, dict[str, Missing]]]]:
    """Runs batches and stores what they find; yields how many inputs, and what was lost."""
    factories = [
        partial(_Reader, tuple(graph.order), device, graph.dtype, graph.build)
        for device in options.devices or (graph.device,)
    ]
    for count, results in run_batches(
        batches,
        factories,
        workers=options.workers,
        parts=_Inputs(),
        timeout=options.timeout,
        ray=options.ray,
        in_process=options.in_process,
        stop=options.stop,
    ):
        keep: dict[tuple[str, str], bytes | Missing] = {}
        lost: dict[str, dict[str, Missing]] = defaultdict(dict)
        for (name, key), value in results.items():
            if isinstance(value, Missing) and value.reason in TRANSIENT:
                lost[name][key] = value
            else:
                keep[key, graph.fingerprints[name]] = value
        features.put(keep)
        yield count, lost


def _pending(
    wanted: Wanted, graph: Graph, features: FeatureStore
) -> tuple[dict[str, Input], dict[str, dict[tuple[str, str], str | None]]]:
    """Inputs by key; and per input key the (extractor, key) passes to run, with their texts."""
    inputs: dict[str, Input] = {}
    passes: dict[str, dict[tuple[str, str], str | None]] = defaultdict(dict)
    for entry, names in wanted:
        inputs.setdefault(entry.key, entry)
        for name in names:
            passes[entry.key][name, graph.key(name, entry)] = graph.text(name, entry)
    for name in graph.order:
        keys = {key for per_input in passes.values() for owner, key in per_input if owner == name}
        known = features.known(keys, graph.fingerprints[name])
        for per_input in passes.values():
            for place in [place for place in per_input if place[0] == name and place[1] in known]:
                del per_input[place]
    return inputs, {key: passes[key] for key in sorted(passes) if passes[key]}


def _batches(
    inputs: Mapping[str, Input],
    pending: Mapping[str, Mapping[tuple[str, str], str | None]],
    graph: Graph,
    features: FeatureStore,
    size: int,
) -> Iterator[list[_Task]]:
    tasks: list[_Task] = []
    for key, passes in pending.items():
        known: dict[str, bytes | Missing] = {}
        running = {name for name, _ in passes}
        for need in {need for name in running for need in graph.extractors[name].needs} - running:
            value = features.get([key], graph.fingerprints[need])[key]
            known[need] = value if isinstance(value, Missing) else pack(value)
        ordered = sorted(passes, key=lambda place: graph.order.index(place[0]))
        tasks.append(
            _Task(
                inputs[key],
                tuple(_Pass(name, own, passes[name, own]) for name, own in ordered),
                known,
            )
        )
        if len(tasks) == size:
            yield tasks
            tasks = []
    if tasks:
        yield tasks


_Results = tuple[int, dict[tuple[str, str], bytes | Missing]]


class _Inputs:
    """Batches of inputs, for the executor: one input is the smallest part."""

    def split(self, tasks: Sequence[_Task]) -> list[list[_Task]]:
        return [[task] for task in tasks]

    def poison(self, tasks: Sequence[_Task], detail: str) -> _Results:
        lost = Missing("poison", detail)
        return len(tasks), {(p.extractor, p.key): lost for task in tasks for p in task.passes}


class _Reader:
    """The worker: holds the networks, decodes a batch once and passes it through each of them."""

    def __init__(self, order: Sequence[str], device: str, dtype: str, build: Build) -> None:
        self._extractors = {name: build(name, device=device, dtype=dtype) for name in order}
        self._fits: dict[str, int] = {}  # the largest batch of a network, once one was too large
        if device.startswith("cpu"):
            _use_one_thread()

    def __call__(self, tasks: Sequence[_Task]) -> _Results:
        found: dict[tuple[str, str], Features | Missing] = {}
        for task in tasks:
            for name, data in task.known.items():
                value = data if isinstance(data, Missing) else unpack(data)
                found[name, task.input.key] = value
        images = [_read(task.input) for task in tasks]
        for name, extractor in self._extractors.items():
            places, items = [], []
            for task, image in zip(tasks, images, strict=True):
                needed = {need: found.get((need, task.input.key)) for need in extractor.needs}
                lost = next((v for v in (image, *needed.values()) if isinstance(v, Missing)), None)
                for step in task.passes:
                    if step.extractor != name:
                        continue
                    if lost is not None:
                        found[name, step.key] = lost
                    else:
                        features: Any = needed
                        mask = _mask(task.input) if extractor.reads == "image_mask" else None
                        if isinstance(mask, Missing):
                            found[name, step.key] = mask
                            continue
                        places.append((name, step.key))
                        items.append(
                            Item(image=image, text=step.text, mask=mask, features=features)
                        )
            found.update(zip(places, self._run(extractor, items), strict=True))
        return len(tasks), {
            (step.extractor, step.key): value if isinstance(value, Missing) else pack(value)
            for task in tasks
            for step in task.passes
            for value in [found[step.extractor, step.key]]
        }

    def _run(self, extractor: Extractor, items: Sequence[Item]) -> list[Features | Missing]:
        """Features per item; an item on which the extractor raises gets the error as its reason."""
        size = self._fits.get(extractor.name, len(items))
        if size < len(items):
            parts = [items[start : start + size] for start in range(0, len(items), size)]
            return [found for part in parts for found in self._run(extractor, part)]
        if not items:
            return []
        try:
            return list(extractor(items))
        except Exception as error:  # one bad input must not cost the others theirs
            hungry = is_out_of_memory(error)
            if len(items) == 1:
                log.warning("extractor %s failed", extractor.name, exc_info=True)
                text = f"{extractor.name}: {type(error).__name__}: {error}"
                return [Missing("error", text[:2000])]
        # Out of the handler: the error no longer holds what the batch had in memory.
        if hungry:
            self._fits[extractor.name] = len(items) // 2
            free_memory()
            return self._run(extractor, items)
        return [self._run(extractor, [item])[0] for item in items]


def _read(entry: Input) -> Any:
    """The pixels of an image, None for a text, or why there are none."""
    if entry.path is None:
        return None
    try:
        if sha256_of(entry.path) != entry.key:
            return Missing("changed_image", f"{entry.path} is not the file that was recorded")
        return read_rgb(entry.path)
    except (ImageError, OSError) as error:
        return Missing("unreadable_image", str(error))


def _mask(entry: Input) -> Any:
    """The mask of an input, None without one, or why it cannot be read."""
    if entry.mask is None:
        return None
    try:
        return read_mask(entry.mask)
    except (ImageError, OSError) as error:
        return Missing("unreadable_image", str(error))


def _use_one_thread() -> None:
    # So that results do not depend on the number of workers or of cores.
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(1)
