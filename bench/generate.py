"""A method over a suite: images and records; resumable at every sample."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from idbench.environment import environment
from idbench.executors import run_batches
from idbench.generation_worker import Batch, Generator, Unit, Units, close
from idbench.method_spec import MethodSpec
from idbench.methods.protocol import Capabilities, Method
from idbench.progress import Progress
from idbench.prompts.cases import Case, hashed_seed
from idbench.prompts.materialise import materialise
from idbench.prompts.suites import Suite
from idbench.prompts.tags import case_tags
from idbench.records import Sample
from idbench.requests import distractors
from idbench.store import SHARDS, RunIdentity, RunStore

AUTO_BATCH_SIZE = 8


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
            plan(store, suite, cases)
            todo = _todo(store, cases, options.retry_failed)
            kept.append(len(store.samples("ok")))
            stores.append(store)
            jobs.append(_batches(number, spec, method.capabilities, store, suite, todo, options))
            close(method)
            total += len(todo)
        made, failed = [0] * len(stores), [0] * len(stores)
        batches = chain.from_iterable(jobs)
        with Progress("generate", total, "images") as progress:
            factory = partial(
                Generator, options.data_root, options.device, options.dtype, options.size
            )
            results = run_batches(
                batches, factory, workers=options.workers, parts=Units(), timeout=options.timeout
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


def plan(store: RunStore, suite: Suite, cases: Sequence[Case]) -> None:
    """Records what is to be made: every case and sample with its seed, identity and tags."""
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
            case_tags(case),
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
) -> Iterator[Batch]:
    aliases = Counter(case.alias for case in suite.cases)
    others = distractors(suite.cases) if capabilities.distractor else {}
    size = options.batch_size or AUTO_BATCH_SIZE
    size = max(1, min(size, capabilities.max_batch_size or size))
    for start in range(0, len(todo), size):
        units = tuple(
            Unit(
                case=case,
                sample=sample.sample,
                seed=sample.seed,
                alias=case.alias if aliases[case.alias] == 1 else "",
                distractor=others.get(sample.case_id),
            )
            for sample in todo[start : start + size]
            for case in [suite.case(sample.case_id)]
        )
        yield Batch(run=run, spec=spec, directory=store.directory, units=units)
