"""Metrics of whole runs, such as FID: computed from stored features, and read as aggregates."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from idbench.canonical import canonical_json, fingerprint
from idbench.extraction import Losses
from idbench.features import FeatureStore
from idbench.metrics.protocol import Missing, MissingValueError, SetMetric
from idbench.observations import Observer
from idbench.progress import Progress
from idbench.records import Column, Sample, SetScore
from idbench.store import RunStore, find_runs

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 256


def inputs_of(samples: Sequence[Sample], observer: Observer) -> str:
    """Identifies the images that a set metric reads, so that a value is known to be current."""
    return fingerprint([[s.case_id, s.sample, s.sha256] for s in samples] + [observer.base_key])


def compute_set_scores(
    store: RunStore,
    observer: Observer,
    metric: SetMetric,
    columns: Sequence[Column],
    features: FeatureStore,
    losses: Losses,
    progress: Progress,
) -> list[SetScore]:
    """One value per variant from all images of a run; every sample that is left out is counted.

    A case that occurs several times upstream counts as often.
    """
    planned = store.planned()
    state, reasons, seen = metric.start(), Counter[str](), 0
    for start in range(0, len(planned), CHUNK):
        chunk = planned[start : start + CHUNK]
        made = [sample for sample, *_ in chunk if sample.status == "ok"]
        observations = observer.observations(made, features, losses)
        for sample, _, multiplicity, _ in chunk:
            observation = observations.get((sample.case_id, sample.sample))
            if observation is None:
                reasons["no_image"] += multiplicity
                continue
            try:
                for _ in range(multiplicity):
                    state.update(observation)
                seen += multiplicity
            except MissingValueError as error:
                reasons[error.missing.reason] += multiplicity
        progress.advance(len(chunk))
    values = state.compute()
    total = sum(multiplicity for _, _, multiplicity, _ in planned)
    inputs = inputs_of([sample for sample, *_ in planned], observer)
    scores = []
    for variant, column in zip(metric.info.variants, columns, strict=True):
        value = values[variant]
        usable = not isinstance(value, Missing) and math.isfinite(value)
        lost = Counter(reasons)
        if not usable and seen:
            lost[value.reason if isinstance(value, Missing) else "not_finite"] += seen
        scores.append(
            SetScore(
                column=column,
                value=float(value) if usable and not isinstance(value, Missing) else None,
                inputs=inputs,
                n=seen if usable else 0,
                total=total,
                samples=len(planned),
                reasons=dict(lost),
            )
        )
    return scores


def load_set_aggregates(paths: Iterable[Path]) -> "tuple[pd.DataFrame, list[Column]]":
    """The values of whole runs in the form of `idbench.aggregate`, without intervals.

    Raises:
        RunError: If one of `paths` holds no run.
    """
    import pandas as pd

    from idbench.aggregate import AGGREGATE_FRAME

    rows, columns = [], {}
    for directory in find_runs(paths):
        with RunStore.open(directory) as store:
            for score in store.set_scores():
                columns[score.column.name, score.column.fingerprint] = score.column
                rows.append(
                    {
                        "suite": store.identity.suite["name"],
                        "label": store.identity.label,
                        "run": directory.name,
                        "column": score.column.name,
                        "fingerprint": score.column.fingerprint,
                        "mean": math.nan if score.value is None else score.value,
                        **dict.fromkeys(("se", "margin", "low", "high"), math.nan),
                        "n": score.n,
                        "total": score.total,
                        "samples": score.samples,
                        "identities": 0,
                        "reasons": canonical_json(dict(score.reasons)),
                    }
                )
    frame = pd.DataFrame(rows, columns=list(AGGREGATE_FRAME)).astype(AGGREGATE_FRAME)
    return frame, [columns[key] for key in sorted(columns)]
