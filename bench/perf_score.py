"""Speed of scoring: the engine beside the original's way of working, on the same networks.

IBench gives each metric its own loop: it decodes, detects and runs one image at a time, and what
one metric found the next one looks for again. The engine decodes, detects and passes once. Both
run here in one process with one thread, on the networks of IBench's metrics; the references are
not cached between items, as is the case in the original beyond twenty identities. FID's matrix
root, which both would compute once, is left out.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from idbench.extraction import ExtractOptions, Graph, Input, extract, text_input
from idbench.features import FeatureStore
from idbench.metrics.images import read_rgb, sha256_of
from idbench.metrics.protocol import (
    Extractor,
    Features,
    Item,
    Metric,
    Missing,
    MissingValueError,
    Observation,
    Role,
    SetMetric,
)
from idbench.metrics.published_metrics import GROUPS
from idbench.metrics.registry import (
    build_extractor,
    extractor_order,
    missing_requirements,
    resolve,
    resolve_sets,
)
from idbench.perf_loops import Build, Images, time_loops
from idbench.perf_times import Spent, Times, timed

Pixels = NDArray[np.uint8]

PROMPT = (
    "In a warmly lit library a person in a grey coat reads a letter by the window, one hand on the "
    "sill, while rain runs down the glass and the street lamps blur behind it; the light is soft, "
    "the wooden shelves reach to the ceiling, and the mood is quiet and a little sad"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `idbench perf score`."""
    parser.add_argument("--identities", type=int, default=2, metavar="N", help="default 2")
    parser.add_argument("--prompts", type=int, default=8, metavar="N", help="default 8")
    parser.add_argument("--side", type=int, default=1024, metavar="PIXELS", help="default 1024")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="default 16")
    parser.add_argument(
        "--clock",
        choices=["wall", "cpu"],
        default="wall",
        help="of the time per stage; cpu: of this process, for a machine with other work to do",
    )
    parser.add_argument(
        "--random", action="store_true", help="random weights even where real ones are here"
    )
    parser.add_argument(
        "--tiny", action="store_true", help="small random networks, to try the measurement itself"
    )


def measure(args: argparse.Namespace) -> str:
    """Times both ways of working; returns a report.

    Raises:
        ValueError: If a number is below 1.
        ModuleNotFoundError: If a package that the networks need is not installed.
    """
    for name in ("identities", "prompts", "side", "batch_size"):
        if getattr(args, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(args, name)}")
    with tempfile.TemporaryDirectory(prefix="idbench-perf-") as temporary:
        folder = Path(temporary)
        items = _items(folder / "images", args.identities, args.prompts, args.side)
        build, weights = _networks(folder / "weights", items[0], args.random, args.tiny)
        return "\n".join(_report(args, items, build, weights, folder))


class _Timed:
    """An extractor whose calls are timed."""

    def __init__(self, extractor: Extractor, times: Times) -> None:
        self._extractor, self._times = extractor, times
        self.name, self.needs, self.reads = extractor.name, extractor.needs, extractor.reads

    def fingerprint(self) -> Mapping[str, object]:
        return self._extractor.fingerprint()

    def __call__(self, items: Sequence[Item]) -> list[Features | Missing]:
        with self._times.of(self.name):
            found = self._extractor(items)
        if self.name == "antelopev2":
            self._times.faces += [len(f["boxes"]) for f in found if not isinstance(f, Missing)]
        return found


def _networks(folder: Path, item: Images, random: bool, tiny: bool) -> tuple[Build, str]:
    """How to build an extractor, and what its weights are."""
    needed = [name for name in _wanted_networks() if name not in ("mtcnn", "mtcnn_native")]
    lacking = [line for name in needed for line in missing_requirements(name)]
    packages = [line for line in lacking if line.startswith("package")]
    if packages:
        raise ModuleNotFoundError("; ".join(dict.fromkeys(packages)))
    if not lacking and not random and not tiny:
        return build_extractor, "the released weights"
    from idbench.metrics.extractors.random_weights import random_store

    store, _ = random_store(folder, read_rgb(item.reference), tiny)
    of = "reduced networks" if tiny else "the true architectures"
    return partial(build_extractor, store=store), f"random weights of {of}: scores mean nothing"


def _metrics() -> tuple[list[Metric], list[SetMetric]]:
    names = GROUPS["ibench_all"]
    return resolve(names), resolve_sets(names)


def _wanted_networks() -> list[str]:
    metrics, sets = _metrics()
    needs = [m.needs for m in metrics] + [m.needs for m in sets]
    return extractor_order(sorted({n for need in needs for names in need.values() for n in names}))


def _items(folder: Path, identities: int, prompts: int, side: int) -> list[Images]:
    """Variations of one photograph, prompt by prompt: every image is a file of its own."""
    from skimage import data

    folder.mkdir(parents=True)
    photograph = Image.fromarray(cast(Any, data).astronaut()).resize(
        (side, side), Image.Resampling.BICUBIC
    )
    random = np.random.default_rng(0)

    def variation(name: str) -> Path:
        noise = random.normal(0, 2, (side, side, 3))
        pixels = np.clip(np.asarray(photograph) + noise, 0, 255).astype(np.uint8)
        path = folder / f"{name}.png"
        Image.fromarray(pixels).save(path)
        return path

    references = [variation(f"r{identity}") for identity in range(identities)]
    return [
        Images(
            references[identity],
            variation(f"w{prompt}-{identity}"),
            variation(f"o{prompt}-{identity}"),
            f"{PROMPT}, scene {prompt}",
        )
        for prompt in range(prompts)
        for identity in range(identities)
    ]


def _report(
    args: argparse.Namespace, items: Sequence[Images], build: Build, weights: str, folder: Path
) -> list[str]:
    _one_thread(args.device)
    engine, engine_spent = _time_engine(args, items, build, folder)
    loop, loop_spent = time_loops(items, build, args.device)
    # MTCNN's pyramid and suppression are part of its forward pass; it has no bare network.
    bare = Spent.total(
        spent if stage.startswith("mtcnn") else engine.networks[stage]
        for stage, spent in engine.stages.items()
    )
    count = len(items)
    return [
        f"full IBench set on {count} items ({args.identities} identities x {args.prompts} "
        f"prompts), {args.side} x {args.side} px",
        f"device {args.device}, one process, one thread, batches of {args.batch_size}; {weights}",
        f"faces per image: {np.mean(engine.faces):.1f}",
        "",
        f"{'':<20}{'wall s':>10}{'items/s':>10}{'cpu s':>10}{'items/s':>10}",
        _total("per-metric loop", loop_spent, count),
        _total("engine", engine_spent, count),
        _total("bare networks", bare, count),
        _quotient("loop / engine", loop_spent, engine_spent),
        _quotient("engine / networks", engine_spent, bare),
        "",
        *_stages(engine, loop, engine_spent, args.clock),
    ]


def _total(name: str, spent: Spent, count: int) -> str:
    parts = (spent.wall, count / spent.wall, spent.cpu, count / spent.cpu)
    return f"{name:<20}{parts[0]:>10.1f}{parts[1]:>10.3f}{parts[2]:>10.1f}{parts[3]:>10.3f}"


def _quotient(name: str, over: Spent, under: Spent) -> str:
    return f"{name:<20}{over.wall / under.wall:>10.3f}{'':>10}{over.cpu / under.cpu:>10.3f}"


def _stages(engine: Times, loop: Times, whole: Spent, clock: str) -> list[str]:
    """Seconds per stage, the longest of the engine first."""

    def of(spent: Spent | None) -> float:
        return 0.0 if spent is None else spent.cpu if clock == "cpu" else spent.wall

    lines = [f"{f'stage, {clock} s':<28}{'engine':>10}{'networks':>12}{'loop':>10}"]
    names = sorted({*engine.stages, *loop.stages}, key=lambda name: -of(engine.stages.get(name)))
    for name in names:
        inside = of(engine.networks.get(name))
        lines.append(
            f"{name:<28}{of(engine.stages.get(name)):>10.2f}"
            f"{f'{inside:.2f}' if inside else '-':>12}{of(loop.stages.get(name)):>10.2f}"
        )
    rest = of(whole) - sum(map(of, engine.stages.values()))
    return [*lines, f"{'decode, store and schedule':<28}{rest:>10.2f}"]


def _one_thread(device: str) -> None:
    if device == "cpu":
        import torch

        torch.set_num_threads(1)


def _time_engine(
    args: argparse.Namespace, items: Sequence[Images], build: Build, folder: Path
) -> tuple[Times, Spent]:
    """The engine: one extraction over all files, then the metrics on stored features."""
    times = Times()
    metrics, sets = _metrics()
    roles: dict[Role, list[str]] = {}
    for needs in [*(m.needs for m in metrics), *(m.needs for m in sets)]:
        for role, names in needs.items():
            roles[role] = list(dict.fromkeys([*roles.get(role, []), *extractor_order(names)]))
    built: dict[str, Extractor] = {}

    def once(name: str, *, device: str, dtype: str) -> Extractor:
        if name not in built:
            built[name] = build(name, device=device, dtype=dtype)
        return _Timed(built[name], times)

    graph = Graph(_wanted_networks(), args.device, "float32", once)
    _warm(built, items[0])
    times.clear()
    features = FeatureStore(folder / "features.sqlite")
    with timed() as spent:
        inputs = [_inputs(item) for item in items]
        wanted = (
            (entry, graph.closure(roles[role]))
            for of_item in inputs
            for role, entry in of_item.items()
            if role in roles
        )
        losses = extract(wanted, graph, features, ExtractOptions(batch_size=args.batch_size))
        if any(losses.values()):
            raise RuntimeError(f"a network failed: {next(v for v in losses.values() if v)}")
        with times.of("metrics"):
            for item, of_item in zip(items, inputs, strict=True):
                observation = _observation(item, of_item, roles, graph, features)
                for metric in metrics:
                    _score(metric, observation)
    features.close()
    return times, spent


def _inputs(item: Images) -> dict[Role, Input]:
    return {
        "reference": Input(sha256_of(item.reference), item.reference, item.prompt),
        "generated": Input(sha256_of(item.generated), item.generated, item.prompt),
        "base": Input(sha256_of(item.base), item.base, item.prompt),
        "prompt": text_input(item.prompt),
    }


def _observation(
    item: Images,
    inputs: Mapping[Role, Input],
    roles: Mapping[Role, Sequence[str]],
    graph: Graph,
    features: FeatureStore,
) -> Observation:
    return Observation(
        prompt=item.prompt,
        features={
            role: (
                {
                    name: features.get([entry.key], graph.fingerprints[name])[entry.key]
                    for name in roles[role]
                },
            )
            for role, entry in inputs.items()
            if role in roles
        },
    )


def _score(metric: Metric, observation: Observation) -> None:
    try:
        metric(observation)
    except MissingValueError:
        return


def _warm(extractors: Mapping[str, Extractor], item: Images) -> None:
    """Loads every network, outside the measured time of either way."""
    image = read_rgb(item.reference)
    found: dict[str, Any] = {}
    for name, extractor in extractors.items():
        features = {need: found[need] for need in extractor.needs}
        found[name] = extractor([Item(image=image, text=item.prompt, features=features)])[0]
