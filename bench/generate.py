"""A method over a suite: images and records; resumable at every sample."""

import hashlib
import io
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from PIL import Image

from idbench.environment import environment
from idbench.executors import run_batches
from idbench.files import StorageError, write_whole
from idbench.methods.protocol import Capabilities, Failure, Method, Request
from idbench.methods.registry import build
from idbench.methods.wrappers.answers import as_image, sized
from idbench.progress import Progress
from idbench.prompts.cases import Case, hashed_seed
from idbench.prompts.cases import Reference as CaseReference
from idbench.prompts.materialise import materialise
from idbench.prompts.suites import Suite
from idbench.records import Sample
from idbench.requests import build_request, distractors
from idbench.store import SHARDS, RunIdentity, RunStore

log = logging.getLogger(__name__)

AUTO_BATCH_SIZE = 8


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


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateOptions:
    """How to generate. `size` is (width, height); None leaves it to the method.

    `timeout` is the longest that one batch may take, in seconds, the loading of the method
    included; with it or with several `workers`, a process that dies or hangs is replaced.
    `shard` is (number from 1, count): only the cases of that share, in `shards/` of the workspace.
    `suite_target` is the folder of a suite that has no name here, so that scoring finds it again.
    """

    workspace: Path
    data_root: Path
    suite_target: str | None = None
    shard: tuple[int, int] | None = None
    limit: int | None = None
    seed: int | None = None
    size: tuple[int, int] | None = None
    batch_size: int | None = None
    workers: int = 1
    timeout: float | None = None
    device: str = "cpu"
    dtype: str = "float32"
    retry_failed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class _Unit:
    case: Case
    sample: int
    seed: int
    alias: str
    distractor: CaseReference | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Batch:
    run: int
    spec: MethodSpec
    directory: Path
    units: tuple[_Unit, ...]


@dataclass(frozen=True, slots=True)
class Generated:
    """What a call did for one run.

    `made` and `failed` count samples of this call, `kept` the images that were there before, and
    `reasons` all samples that have no image now, by reason and detail.
    """

    directory: Path
    made: int
    failed: int
    kept: int
    reasons: Counter[tuple[str, str]]

    @property
    def all_failed(self) -> int:
        """The samples that have no image now."""
        return self.reasons.total()


def seed_policy(suite: Suite, seed: int | None) -> str:
    """The suite's own policy, or `fixed:<base>` where the user gave a seed."""
    return suite.seed_policy if seed is None else f"fixed:{seed}"


def sample_seed(policy: str, case_id: str, sample: int) -> int:
    """Seed of a sample: hashed from its id, or base + sample for every case."""
    if policy == "hashed":
        return hashed_seed(case_id, sample)
    return (int(policy.removeprefix("fixed:")) + sample) & 0x7FFFFFFF


def generate(
    suite: Suite, methods: Sequence[MethodSpec], options: GenerateOptions
) -> list[Generated]:
    """Makes the images that are still missing, one run per method.

    A method that is finished is left as it is. A sample that fails is recorded with its reason and
    is tried again only with `retry_failed`.

    Raises:
        LookupError: If a method is unknown.
        ValueError: If its arguments are wrong or it cannot do the suite.
        StorageError: If the disk refuses; what was recorded stays.
        WorkerDiedError: If a worker process died.
    """
    materialise(suite, options.data_root)
    cases = suite.cases[: options.limit] if options.limit else suite.cases
    workspace = options.workspace
    if options.shard is not None:
        number, count = options.shard
        cases = [case for case in cases if shard_of(case.case_id, count) == number]
        workspace = shard_folder(workspace, options.shard)
    with ExitStack() as stack:
        stores, jobs, kept, total = [], [], [], 0
        for number, spec in enumerate(methods):
            method = spec.build(options.device, options.dtype)
            _require(method, suite)
            identity = _identity(suite, spec, method, options)
            store = stack.enter_context(RunStore.create(workspace, identity))
            stack.enter_context(store.writing())
            _plan(store, suite, cases)
            todo = _todo(store, cases, options.retry_failed)
            kept.append(len(store.samples("ok")))
            stores.append(store)
            jobs.append(_batches(number, spec, method.capabilities, store, suite, todo, options))
            _close(method)
            total += len(todo)
        made, failed = [0] * len(stores), [0] * len(stores)
        batches = chain.from_iterable(jobs)
        with Progress("generate", total, "images") as progress:
            factory = partial(_Generator, options)
            results = run_batches(
                batches, factory, workers=options.workers, parts=_Units(), timeout=options.timeout
            )
            for run, samples in results:
                stores[run].record(samples)
                made[run] += sum(sample.status == "ok" for sample in samples)
                failed[run] += sum(sample.status == "failed" for sample in samples)
                progress.advance(len(samples))
        return [
            Generated(store.directory, made[run], failed[run], kept[run], _reasons(store))
            for run, store in enumerate(stores)
        ]


def shard_of(case_id: str, count: int) -> int:
    """Which of `count` shards, from 1, a case belongs to: by content, not by position."""
    return int(case_id.removeprefix("c"), 16) % count + 1


def shard_folder(workspace: Path, shard: tuple[int, int]) -> Path:
    """The workspace of one shard."""
    return workspace / SHARDS / f"{shard[0]}-of-{shard[1]}"


def _reasons(store: RunStore) -> Counter[tuple[str, str]]:
    return Counter((s.reason or "error", s.detail or "") for s in store.samples("failed"))


def _identity(
    suite: Suite, spec: MethodSpec, method: Method, options: GenerateOptions
) -> RunIdentity:
    return RunIdentity(
        label=spec.display(method),
        method={
            "name": method.name,
            "target": spec.name,
            "args": {key: str(value) for key, value in spec.args.items()},
            "fingerprint": dict(method.fingerprint()),
        },
        suite={
            "name": suite.name,
            "target": options.suite_target or suite.name,
            "version": suite.version,
            "kind": suite.kind,
            "sha256": suite.sha256,
            "samples_per_case": suite.samples_per_case,
        },
        seed_policy=seed_policy(suite, options.seed),
        size=options.size,
        environment=environment(options.device),
    )


def _require(method: Method, suite: Suite) -> None:
    kinds = method.capabilities.kinds
    if suite.kind not in kinds:
        raise ValueError(
            f"method {method.name!r} does {', '.join(sorted(kinds))}; suite {suite.name!r} is "
            f"{suite.kind}: choose another suite (idbench list suites) or method"
        )


def _plan(store: RunStore, suite: Suite, cases: Sequence[Case]) -> None:
    policy = store.identity.seed_policy
    store.plan(
        (
            Sample(
                case_id=case.case_id,
                sample=k,
                seed=sample_seed(policy, case.case_id, k),
                status="pending",
            ),
            case.identity,
            case.multiplicity,
            {name: list(values) for name, values in case.tags.items()},
        )
        for case in cases
        for k in range(suite.samples_per_case)
    )


def _todo(store: RunStore, cases: Sequence[Case], retry_failed: bool) -> list[Sample]:
    """Samples of `cases` without an image, and those whose image is gone from the folder."""
    planned = {case.case_id for case in cases}
    todo = store.samples("pending") + (store.samples("failed") if retry_failed else [])
    todo += [
        sample
        for sample in store.samples("ok")
        if sample.path and not (store.directory / sample.path).is_file()
    ]
    return sorted((s for s in todo if s.case_id in planned), key=lambda s: (s.case_id, s.sample))


def _batches(
    run: int,
    spec: MethodSpec,
    capabilities: Capabilities,
    store: RunStore,
    suite: Suite,
    todo: Sequence[Sample],
    options: GenerateOptions,
) -> Iterator[_Batch]:
    aliases = Counter(case.alias for case in suite.cases)
    others = distractors(suite.cases) if capabilities.distractor else {}
    size = options.batch_size or AUTO_BATCH_SIZE
    size = max(1, min(size, capabilities.max_batch_size or size))
    for start in range(0, len(todo), size):
        units = tuple(
            _Unit(
                case=case,
                sample=sample.sample,
                seed=sample.seed,
                alias=case.alias if aliases[case.alias] == 1 else "",
                distractor=others.get(sample.case_id),
            )
            for sample in todo[start : start + size]
            for case in [suite.case(sample.case_id)]
        )
        yield _Batch(run=run, spec=spec, directory=store.directory, units=units)


def _close(method: Method) -> None:
    """Ends what a method holds, such as a program, where it can be told to."""
    close = getattr(method, "close", None)
    if callable(close):
        close()


class _Units:
    """Batches of samples, for the executor: one sample is the smallest part."""

    def split(self, batch: _Batch) -> list[_Batch]:
        return [replace(batch, units=(unit,)) for unit in batch.units]

    def poison(self, batch: _Batch, detail: str) -> tuple[int, list[Sample]]:
        lost = Failure("poison", detail)
        return batch.run, [_finish(batch.directory, unit, lost, 0.0) for unit in batch.units]


class _Generator:
    """The worker: keeps the method of the run it is in, writes images, returns records."""

    def __init__(self, options: GenerateOptions) -> None:
        self._options = options
        self._run: int | None = None
        self._method: Method | None = None

    def __call__(self, batch: _Batch) -> tuple[int, list[Sample]]:
        if self._method is None or self._run != batch.run:
            if self._method is not None:
                _close(self._method)
            self._method = None  # frees the old pipeline before the new one is loaded
            self._method = batch.spec.build(self._options.device, self._options.dtype)
            self._run = batch.run
        most = self._method.capabilities.max_people
        requests: list[Request | Failure] = [self._request(unit, most) for unit in batch.units]
        start = time.perf_counter()
        made = iter(_generate(self._method, [r for r in requests if isinstance(r, Request)]))
        results = [next(made) if isinstance(r, Request) else r for r in requests]
        seconds = (time.perf_counter() - start) / len(batch.units)
        return batch.run, [
            _finish(batch.directory, unit, result, seconds)
            for unit, result in zip(batch.units, results, strict=True)
        ]

    def _request(self, unit: _Unit, most_people: int) -> Request | Failure:
        people = len({reference.person for reference in unit.case.references})
        if people > most_people:
            return Failure("too_many_people", f"{people} people, the method does {most_people}")
        try:
            return build_request(
                unit.case,
                unit.sample,
                unit.seed,
                data_root=self._options.data_root,
                alias=unit.alias,
                distractor=unit.distractor,
                size=self._options.size,
            )
        except (OSError, ValueError) as error:
            return Failure("bad_reference", str(error))


def _generate(
    method: Method, requests: Sequence[Request]
) -> list[tuple[Image.Image, bytes] | Failure]:
    """Asks for a batch; when that raises, one by one, so that the fault falls on the right one."""
    if not requests:
        return []
    try:
        answers: Sequence[Any] = list(method.generate(requests))
        if len(answers) != len(requests):
            raise ValueError(f"the method gave {len(answers)} results for {len(requests)} requests")
    except StorageError:
        raise
    except Exception as error:  # whatever a method raises is that sample's failure, not the run's
        if len(requests) > 1:
            return [_generate(method, [request])[0] for request in requests]
        log.warning("%s failed on %s: %s", method.name, requests[0].case_id, error, exc_info=True)
        return [Failure("error", f"{type(error).__name__}: {error}"[:2000])]
    return [_encoded(request, answer) for request, answer in zip(requests, answers, strict=True)]


def _encoded(request: Request, answer: object) -> tuple[Image.Image, bytes] | Failure:
    """The answer as a lossless PNG, or why it is none."""
    try:
        image = sized(as_image(answer), request.width, request.height)
        if isinstance(image, Failure):
            return image
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=1)
    except (OSError, ValueError) as error:
        return Failure("not_an_image", str(error))
    return image, buffer.getvalue()


def _finish(
    directory: Path, unit: _Unit, result: tuple[Image.Image, bytes] | Failure, seconds: float
) -> Sample:
    common: dict[str, Any] = {
        "case_id": unit.case.case_id,
        "sample": unit.sample,
        "seed": unit.seed,
        "seconds": seconds,
    }
    if isinstance(result, Failure):
        return Sample(**common, status="failed", reason=result.reason, detail=result.detail)
    image, png = result
    path = Path("images") / unit.case.case_id / f"{unit.sample:03d}.png"
    write_whole(directory / path, png)
    return Sample(
        **common,
        status="ok",
        path=path.as_posix(),
        sha256=hashlib.sha256(png).hexdigest(),
        width=image.width,
        height=image.height,
    )
