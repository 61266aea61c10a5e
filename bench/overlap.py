"""Networks over images while others are still being made.

What they find goes to the feature store, so the scoring that follows has little left to do. The
scores are the same with and without: a feature that is missing there is computed then.
"""

import logging
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from idbench.evaluate import ScoreOptions
from idbench.extraction import Graph, Wanted, extract_as_they_come
from idbench.features import FeatureStore
from idbench.metrics.registry import resolve, resolve_sets
from idbench.observations import Observer
from idbench.prompts.suites import Suite
from idbench.records import Sample
from idbench.store import RunStore

log = logging.getLogger(__name__)


class ScoringAhead:
    """Takes recorded samples and passes them through the networks in a thread of its own.

    A context manager: its end waits until all samples that it was given are through. The networks
    are in worker processes, one per device, or on Ray.
    """

    def __init__(self, suite: Suite, metrics: Sequence[str], options: ScoreOptions) -> None:
        """Begins with the first sample."""
        self._suite, self._metrics, self._options = suite, metrics, options
        self._samples: queue.SimpleQueue[tuple[Path, Sequence[Sample]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="scoring-ahead", daemon=True)

    def recorded(self, directory: Path, samples: Sequence[Sample]) -> None:
        """Says that samples of a run are on record."""
        made = [sample for sample in samples if sample.status == "ok"]
        if made:
            self._samples.put((directory, made))

    def __enter__(self) -> Self:
        """Starts the thread."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Waits for what is under way; not after an error."""
        self._samples.put(None)
        if error is None:
            self._thread.join()

    def _run(self) -> None:
        # Nothing is loaded before there is something to read, and by then Ray is connected.
        first = self._samples.get()
        if first is not None:
            self._score(first)

    def _score(self, first: tuple[Path, Sequence[Sample]]) -> None:
        options = self._options
        needs = [metric.needs for metric in resolve(self._metrics)]
        needs += [metric.needs for metric in resolve_sets(self._metrics)]
        names = {name for need in needs for extractors in need.values() for name in extractors}
        features = FeatureStore(options.workspace / "features.sqlite")
        base = RunStore.open(options.base) if options.base else None
        observers: dict[Path, Observer] = {}
        try:
            graph = Graph(names, options.devices()[0], options.dtype)

            def groups() -> Iterator[Wanted]:
                group: tuple[Path, Sequence[Sample]] | None = first
                while group is not None:
                    directory, samples = group
                    if directory not in observers:
                        with RunStore.open(directory) as store:
                            observers[directory] = Observer(
                                store, self._suite, needs, graph, options.data_root, base
                            )
                    yield _wanted(observers[directory], samples)
                    group = self._samples.get()

            extract = replace(options.extract_options(), in_process=False)
            extract_as_they_come(groups(), graph, features, extract)
        except Exception:  # the scoring that follows meets the same fault, and says so
            log.warning("scoring while generating ended early", exc_info=True)
        finally:
            features.close()
            if base is not None:
                base.close()


def _wanted(observer: Observer, samples: Iterable[Sample]) -> Wanted:
    for sample in samples:
        for role, inputs in observer.inputs(sample).items():
            for entry in inputs:
                yield entry, observer.roles[role]
