"""A method over a suite: images and records; resumable at every sample."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from idbench.batch_sizes import AUTO_ON_CPU, AUTO_ON_DEVICE, BatchMemory, BatchSearch
from idbench.canonical import fingerprint
from idbench.devices import devices_of
from idbench.environment import device_name, environment
from idbench.executors import RayOptions, run_batches
from idbench.generation_worker import Batch, Generator, Unit, Units, close
from idbench.method_spec import MethodSpec
from idbench.methods.protocol import Method
from idbench.progress import Progress
from idbench.prompts.cases import Case, hashed_seed
from idbench.prompts.materialise import materialise
from idbench.prompts.suites import Suite
from idbench.prompts.tags import case_tags
from idbench.recording import Recorder
from idbench.records import Sample
from idbench.remaining import Remaining
from idbench.store import SHARDS, RunIdentity, RunStore
from idbench.work_queue import never

Recorded = Callable[[Path, Sequence[Sample]], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateOptions:
    """How to generate. `size` is (width, height); None leaves it to the method.

    `batch_size` is the most samples in a batch, None as many as memory holds. `timeout` is the
    longest that one batch may take, in seconds, the loading of the method included; with it or
    with several `workers`, a process that dies or hangs is replaced. `workers` None is one per
    device; `device` may list several ("cuda:0,cuda:1").
    With `ray` the workers are on a Ray cluster. They write images into the run, on a file system
    that all nodes share, or each into `node_store`, a folder of its node, and the images are
    collected at the end. When `stop` says so, only what has begun is finished.
    `shard` is (number from 1, count): only the cases of that share, in `shards/` of the workspace,
    less what the whole run in the workspace has already.
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
    workers: int | None = None
    timeout: float | None = None
    device: str = "cpu"
    dtype: str = "float32"
    retry_failed: bool = False
    ray: RayOptions | None = None
    node_store: Path | None = None
    stop: Callable[[], bool] = never

    def devices(self) -> tuple[str, ...]:
        """One device per worker, in turn; on Ray each worker sees only its own."""
        if self.ray is not None:
            return (self.device.partition(":")[0],)
        return devices_of(self.device)


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
    suite: Suite,
    methods: Sequence[MethodSpec],
    options: GenerateOptions,
    recorded: Recorded | None = None,
) -> list[Generated]:
    """Makes the images that are still missing, one run per method.

    A method that is finished is left as it is. A sample that fails is recorded with its reason and
    is tried again only with `retry_failed`. `recorded` is told of a run's directory and samples
    when they are on record, in another thread.

    Raises:
        LookupError: If a method is unknown.
        ValueError: If its arguments are wrong or it cannot do the suite.
        StorageError: If the disk refuses; what was recorded stays.
        WorkerDiedError: If workers die before they are ready.
        KeyboardInterrupt: If `stop` said so, when all that had begun is on record.
    """
    if options.node_store is not None and options.ray is None:
        raise ValueError("--node-store is for the nodes of a Ray cluster: add --executor ray")
    materialise(suite, options.data_root)
    devices = options.devices()
    workspace = options.workspace if options.ray is None else options.workspace.resolve()
    if options.shard is not None:
        workspace = shard_folder(workspace, options.shard)
    with ExitStack() as stack:
        memory = BatchMemory(workspace)
        runs: list[_Run] = []
        for number, spec in enumerate(methods):
            method = spec.build(devices[0], options.dtype)
            _require(method, suite)
            identity = _identity(suite, spec, method, options)
            store = stack.enter_context(RunStore.create(workspace, identity))
            stack.enter_context(store.writing())
            if options.limit or options.shard or store.counts().total() < _planned(suite):
                there = stack.enter_context(_made_already(options, store))
                plan(store, suite, _chosen(suite, options), there)
            runs.append(_Run(number, spec, method, store, suite, options, memory, workspace))
            close(method)
        _collect(runs, options, again=True)
        todo = [run.look() for run in runs]
        kept = [run.store.counts()["ok"] - len(run.remaining.gone) for run in runs]
        made, failed = [0] * len(runs), [0] * len(runs)
        with Progress("generate", sum(todo), "images") as progress, Recorder() as recorder:
            results = run_batches(
                chain.from_iterable(run.batches() for run in runs),
                [
                    partial(Generator, options.data_root, device, options.dtype, options.size)
                    for device in devices
                ],
                workers=_workers(options, devices),
                parts=Units(),
                timeout=options.timeout,
                ray=options.ray,
                stop=options.stop,
            )
            for result in results:
                run = runs[result.run]
                recorder.write(_record, run.store, result.samples, recorded)
                run.search.learn(result.fitted, result.refused)
                if options.batch_size is None:
                    memory.keep(run.memory_key, run.search)
                made[result.run] += sum(sample.status == "ok" for sample in result.samples)
                failed[result.run] += sum(sample.status == "failed" for sample in result.samples)
                progress.advance(len(result.samples))
        _collect(runs, options, again=False)
        for run in runs:
            lost = made[run.number] + kept[run.number] - run.store.counts()["ok"]
            made[run.number] -= lost  # on nodes that are gone
            failed[run.number] += lost
        if options.stop():
            raise KeyboardInterrupt
        return [
            Generated(
                run.store.directory,
                made[run.number],
                failed[run.number],
                kept[run.number],
                run.store.failures(),
            )
            for run in runs
        ]


def _record(store: RunStore, samples: Sequence[Sample], recorded: Recorded | None) -> None:
    store.record(samples)
    if recorded is not None:
        recorded(store.directory, samples)


def _workers(options: GenerateOptions, devices: Sequence[str]) -> int:
    if options.workers is not None:
        return options.workers
    return len(devices) if options.ray is None else 0  # 0: as many as the cluster has room for


def _planned(suite: Suite) -> int:
    return suite.distinct * suite.samples_per_case


def _chosen(suite: Suite, options: GenerateOptions) -> Iterator[Case]:
    """The cases of the limit and the shard, one at a time."""
    cases: Iterable[Case] = suite.cases[: options.limit] if options.limit else suite.cases
    for case in cases:
        if options.shard is None or shard_of(case.case_id, options.shard[1]) == options.shard[0]:
            yield case


def _collect(runs: "Sequence[_Run]", options: GenerateOptions, *, again: bool) -> None:
    if options.ray is not None and options.node_store is not None:
        from idbench.ray_collection import collect

        collect([(run.store, run.directory) for run in runs], options.ray, again=again)


def shard_of(case_id: str, count: int) -> int:
    """Which of `count` shards, from 1, a case belongs to: by content, not by position."""
    return int(case_id.removeprefix("c"), 16) % count + 1


def shard_folder(workspace: Path, shard: tuple[int, int]) -> Path:
    """The workspace of one shard."""
    return workspace / SHARDS / f"{shard[0]}-of-{shard[1]}"


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
        environment=environment(options.devices()[0]) | {"device": options.device},
    )


def _require(method: Method, suite: Suite) -> None:
    kinds = method.capabilities.kinds
    if suite.kind not in kinds:
        raise ValueError(
            f"method {method.name!r} does {', '.join(sorted(kinds))}; suite {suite.name!r} is "
            f"{suite.kind}: choose another suite (idbench list suites) or method"
        )


@contextmanager
def _made_already(
    options: GenerateOptions, store: RunStore
) -> Iterator[Callable[[str, int], bool]]:
    """Says what the whole run has, so that a shard goes on from there and not from nothing."""
    directory = options.workspace / store.directory.parent.name / store.directory.name
    if options.shard is None or not (directory / "run.json").exists():
        yield lambda case_id, sample: False
    else:
        with RunStore.open(directory) as whole:
            yield whole.has_image


def plan(
    store: RunStore,
    suite: Suite,
    cases: Iterable[Case],
    leave_out: Callable[[str, int], bool] = lambda case_id, sample: False,
) -> None:
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
        if not leave_out(case.case_id, k)
    )


class _Run:
    """One method over the suite: what is left to make, and the batches for it."""

    def __init__(
        self,
        number: int,
        spec: MethodSpec,
        method: Method,
        store: RunStore,
        suite: Suite,
        options: GenerateOptions,
        memory: BatchMemory,
        workspace: Path,
    ) -> None:
        self.number, self.store = number, store
        self._spec, self._suite, self._options = spec, suite, options
        self._distractor = method.capabilities.distractor
        self.directory = store.directory  # where images are written: on the node, if it keeps them
        if options.node_store is not None:
            self.directory = options.node_store / store.directory.relative_to(workspace)
        # Not the suite: other prompts need no other memory.
        self.memory_key = fingerprint(
            {
                "method": store.identity.method["fingerprint"],
                "size": options.size,
                "dtype": options.dtype,
                "device": device_name(self._options.devices()[0]),
            }
        )
        self.search = _search(options, method, memory, self.memory_key)

    def look(self) -> int:
        """How many samples are to be made; finds the images that are gone from the folder."""
        options, chosen = self._options, None
        if options.limit:
            chosen = {case.case_id for case in _chosen(self._suite, options)}
        self.remaining = Remaining(
            self.store,
            self._suite,
            only=chosen,
            retry_failed=options.retry_failed,
            distractor=self._distractor,
        )
        return self.remaining.count()

    def batches(self) -> Iterator[Batch]:
        """What is left, in batches of the size that is right by then."""
        units: list[Unit] = []
        for unit in self.remaining.units():
            units.append(unit)
            if len(units) >= self.search.size:
                yield self._batch(units)
                units = []
        if units:
            yield self._batch(units)

    def _batch(self, units: Sequence[Unit]) -> Batch:
        return Batch(run=self.number, spec=self._spec, directory=self.directory, units=tuple(units))


def _search(options: GenerateOptions, method: Method, memory: BatchMemory, key: str) -> BatchSearch:
    allowed = method.capabilities.max_batch_size
    if options.batch_size is not None:
        size = min(options.batch_size, allowed or options.batch_size)
        return BatchSearch(size, size)
    on_cpu = options.device.startswith("cpu")
    most = AUTO_ON_CPU if on_cpu else AUTO_ON_DEVICE
    most = min(most, allowed or most)
    return memory.search(key, start=most if on_cpu else 1, most=most)
