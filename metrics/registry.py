"""The metrics and extractors by name: explicit tables, imported on use.

Nothing here imports torch: metrics are maths on numpy arrays, and of an extractor the table knows
what it needs without importing it. Plug-ins add to both tables through the entry-point groups
`idbench.metrics` and `idbench.extractors`; each entry point loads to what a row names.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import cast

from idbench.metrics import published_extractors, published_metrics
from idbench.metrics.extractor_entry import ExtractorEntry
from idbench.metrics.protocol import Extractor, Metric, MetricInfo, SetMetric
from idbench.metrics.weights import WeightStore, weights_root

log = logging.getLogger(__name__)

METRIC_PLUGINS = "idbench.metrics"
EXTRACTOR_PLUGINS = "idbench.extractors"

# Full name -> "module:callable"; the callable takes no arguments and gives the Metric.
METRICS: dict[str, str] = {
    "facesim@strict[dlib]": "idbench.metrics.identity.facesim:facesim_dlib",
    "landmarkdiff@ibench[mtcnn]": "idbench.metrics.identity.landmarkdiff:LandmarkdiffIBench",
    "landmarkdiff@strict[mtcnn]": "idbench.metrics.identity.landmarkdiff:landmarkdiff_mtcnn",
    "posediv@strict[dlib68]": "idbench.metrics.editability.posediv:PosedivDlib68",
    "headpose@strict[dlib68]": "idbench.metrics.editability.posediv:HeadPoseDlib68",
    "expr_change@strict[dlib68]": "idbench.metrics.editability.expr_change:ExprChangeDlib68",
    "n_faces@strict[mtcnn]": "idbench.metrics.identity.n_faces:NFacesMTCNN",
    **published_metrics.METRICS,
}

# The same for metrics of a set of images; the callable gives a SetMetric.
SET_METRICS: dict[str, str] = {**published_metrics.SET_METRICS}

# Group name -> full names. A group is asked for by its name wherever a metric is.
GROUPS: dict[str, tuple[str, ...]] = {
    "embedded": (
        "facesim@strict[dlib]",
        "landmarkdiff@ibench[mtcnn]",
        "landmarkdiff@strict[mtcnn]",
        "posediv@strict[dlib68]",
        "headpose@strict[dlib68]",
        "expr_change@strict[dlib68]",
        "n_faces@strict[mtcnn]",
    ),
    **published_metrics.GROUPS,
}


EXTRACTORS: dict[str, ExtractorEntry] = {
    "mtcnn": ExtractorEntry(
        target="idbench.metrics.extractors.mtcnn:MTCNN",
        packages=("torch", "joblib", "lz4"),
        extra="embedded",
        missing_weights="idbench.metrics.extractors.packaged:missing_mtcnn",
    ),
    "mtcnn_native": ExtractorEntry(
        target="idbench.metrics.extractors.mtcnn:MTCNNNative",
        needs=("mtcnn",),
        packages=("torch", "joblib", "lz4"),
        extra="embedded",
        missing_weights="idbench.metrics.extractors.packaged:missing_mtcnn",
    ),
    "dlib_face": ExtractorEntry(
        target="idbench.metrics.extractors.dlib_face:DlibFace",
        needs=("mtcnn",),
        packages=("dlib",),
        extra="embedded",
        missing_weights="idbench.metrics.extractors.packaged:missing_dlib",
    ),
    **published_extractors.EXTRACTORS,
}


def list_metrics() -> list[MetricInfo]:
    """What every metric measures, in the order of the table, plug-ins last.

    A plug-in that cannot be loaded is left out with a warning in the log.
    """
    return list(_infos().values())


def resolve(names: Sequence[str]) -> list[Metric]:
    """The metrics of some names, each once, in the order asked for; `resolve_sets` has the others.

    A name is a full one (`posediv@strict[dlib68]`), one of its variants
    (`posediv.yaw@strict[dlib68]`, which stands for the whole metric), either without protocol or
    backend where that is unambiguous (`posediv`, `landmarkdiff@ibench`), or a group (`embedded`).

    Raises:
        LookupError: If a name is unknown or ambiguous; the candidates are listed.
    """
    return [_metric(full) for full in _each_once(names) if full not in SET_METRICS]


def resolve_sets(names: Sequence[str]) -> list[SetMetric]:
    """Those of some names that are metrics of a set of images; see `resolve` for the names.

    Raises:
        LookupError: If a name is unknown or ambiguous; the candidates are listed.
    """
    return [_set_metric(full) for full in _each_once(names) if full in SET_METRICS]


def build_extractor(
    name: str, *, device: str, dtype: str, store: WeightStore | None = None
) -> Extractor:
    """An extractor whose networks run on `device` in `dtype`; they are loaded by its first call.

    Args:
        name: Name of the extractor.
        device: Where its networks run.
        dtype: Their arithmetic.
        store: Where weights of the catalogue lie; `weight_store()` by default.

    Raises:
        LookupError: If the name is unknown.
        ModuleNotFoundError: If a package that it needs is not installed, with the command to get
            it.
        WeightsError, MissingWeightsError: If its weights are absent, with the command to get them.
        ValueError: If `dtype` is unknown.
    """
    entry = _extractor(name)
    absent = [package for package in entry.packages if find_spec(package) is None]
    if absent:
        raise ModuleNotFoundError(
            f"extractor {name!r} needs {', '.join(absent)}; get it with: {_install(entry)}"
        )
    make = cast("Callable[..., Extractor]", _load(entry.target))
    stores = [store or weight_store()] if entry.weights else []
    return make(*stores, **entry.arguments, device=device, dtype=dtype)


def weight_store() -> WeightStore:
    """The weights folder that this process is told to use ($IDBENCH_WEIGHTS_DIR)."""
    return WeightStore(weights_root(os.environ))


def extractor_order(names: Sequence[str]) -> list[str]:
    """The extractors and all that they need, each after those whose features it reads.

    Raises:
        LookupError: If a name is unknown.
        ValueError: If extractors need one another in a circle.
    """
    order: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise ValueError(f"extractors need one another: {' -> '.join((*path, name))}")
        if name not in order:
            for needed in _extractor(name).needs:
                visit(needed, (*path, name))
            order.append(name)

    for name in names:
        visit(name, ())
    return order


def missing_requirements(extractor_name: str) -> list[str]:
    """What is absent for an extractor and all that it needs, each with the command to get it.

    Raises:
        LookupError: If the name is unknown.
    """
    missing: dict[str, None] = {}
    for name in extractor_order([extractor_name]):
        entry = _extractor(name)
        for package in entry.packages:
            if find_spec(package) is None:
                missing[f"package {package} is not installed: {_install(entry)}"] = None
        if entry.missing_weights is not None:
            find = cast("Callable[[], Sequence[str]]", _load(entry.missing_weights))
            missing |= dict.fromkeys(find())
        for key in entry.weights:
            missing |= dict.fromkeys(weight_store().missing(key))
    return list(missing)


def _each_once(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(full for name in names for full in _full_names(name)))


def _full_names(name: str) -> Sequence[str]:
    if name in GROUPS:
        return GROUPS[name]
    if name in METRICS or name in SET_METRICS or name in _plugins(METRIC_PLUGINS):
        return [name]
    found = [full for full, info in _infos().items() if name in _spellings(info)]
    if len(found) == 1:
        return found
    if found:
        raise LookupError(f"metric {name!r} is ambiguous; say one of: {', '.join(found)}")
    listed = ", ".join([*METRICS, *SET_METRICS, *_plugins(METRIC_PLUGINS), *GROUPS])
    raise LookupError(f"unknown metric {name!r}; known: {listed}")


@cache
def _infos() -> Mapping[str, MetricInfo]:
    """Full names and what they measure, without plug-ins that cannot be loaded."""
    infos = {name: _metric(name).info for name in METRICS}
    infos |= {name: _set_metric(name).info for name in SET_METRICS}
    for name, entry in _plugins(METRIC_PLUGINS).items():
        try:
            infos[name] = _metric(name).info
        except Exception:  # one broken plug-in must not hide the others
            log.warning("cannot load the metric plug-in %s (%s)", name, entry.value, exc_info=True)
    return infos


@cache
def _spellings(info: MetricInfo) -> frozenset[str]:
    """Every full, short or variant form of a metric's name."""
    return frozenset(
        f"{info.name}{variant}{protocol}{backend}"
        for variant in ("", *(f".{variant}" for variant in info.variants if variant))
        for protocol in ("", f"@{info.protocol}")
        for backend in ("", f"[{info.backend}]")
    )


@cache
def _metric(full_name: str) -> Metric:
    plugins = _plugins(METRIC_PLUGINS)
    make = plugins[full_name].load() if full_name in plugins else _load(METRICS[full_name])
    return cast("Callable[[], Metric]", make)()


@cache
def _set_metric(full_name: str) -> SetMetric:
    return cast("Callable[[], SetMetric]", _load(SET_METRICS[full_name]))()


def _extractor(name: str) -> ExtractorEntry:
    if name in EXTRACTORS:
        return EXTRACTORS[name]
    plugins = _plugins(EXTRACTOR_PLUGINS)
    if name in plugins:
        return cast("ExtractorEntry", plugins[name].load())
    raise LookupError(f"unknown extractor {name!r}; known: {', '.join([*EXTRACTORS, *plugins])}")


@cache
def _plugins(group: str) -> Mapping[str, EntryPoint]:
    """Entry points by name; a name of our own tables cannot be taken over."""
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=group):
        if entry.name in {*METRICS, *SET_METRICS, *EXTRACTORS, *GROUPS}:
            log.warning("ignored the plug-in %s: idbench has its own %r", entry.value, entry.name)
        else:
            found[entry.name] = entry
    return found


def _load(target: str) -> object:
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def _install(entry: ExtractorEntry) -> str:
    return f'pip install "idbench[{entry.extra}]"'
