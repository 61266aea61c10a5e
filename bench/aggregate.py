"""Means, intervals and coverage of a score frame (pure)."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from idbench.intervals import Floats, mean_interval
from idbench.records import SCORE_FRAME

GROUP = ["suite", "label", "run", "column", "fingerprint"]

# Columns of the frame of aggregates, one row per GROUP. `mean` is weighted by multiplicity, and so
# are `n` (values), `total` (planned samples) and the counts in `reasons`, a JSON object from the
# reason of a miss to its count. `margin` is half the width of the 95 % interval [low, high], NaN
# for fewer than two identities; `identities` counts those with a value, `samples` planned samples
# without weights. `mean` is NaN where n is 0.
AGGREGATE_FRAME = {
    "suite": "str",
    "label": "str",
    "run": "str",
    "column": "str",
    "fingerprint": "str",
    "mean": "float64",
    "se": "float64",
    "margin": "float64",
    "low": "float64",
    "high": "float64",
    "n": "int64",
    "total": "int64",
    "samples": "int64",
    "identities": "int64",
    "reasons": "str",
}


def aggregate(frame: pd.DataFrame) -> pd.DataFrame:
    """Aggregates a frame of scores (`SCORE_FRAME`) into one row per run, column and fingerprint.

    Rows come sorted by suite, label, run, column and fingerprint, and are the same, bit for bit,
    whatever the order of the rows of `frame`. See `AGGREGATE_FRAME` for the columns and
    `idbench.intervals` for the interval, which resamples identities.

    Raises:
        ValueError: If a column of the frame is absent or a sample occurs twice in a group.
    """
    absent = [name for name in SCORE_FRAME if name not in frame.columns]
    if absent:
        raise ValueError(f"a score frame has the columns {', '.join(SCORE_FRAME)}; no {absent}")
    if frame.empty:
        return _typed([])
    codes, groups = _sorted_codes(frame, GROUP)
    identity, identities = _sorted_codes(frame, ["identity"])
    case, _ = _sorted_codes(frame, ["case_id"])
    sample = frame["sample"].to_numpy(np.int64)
    order = np.lexsort((sample, case, identity, codes))
    codes, identity, case, sample = codes[order], identity[order], case[order], sample[order]
    _refuse_duplicates(frame, order, codes, case, sample)

    value = frame["value"].to_numpy(np.float64)[order]
    weight = frame["multiplicity"].to_numpy(np.float64)[order]
    valid = np.isfinite(value)
    cluster = codes.astype(np.int64) * len(identities) + identity
    clusters, position = np.unique(cluster, return_inverse=True)
    valid_weight = np.where(valid, weight, 0.0)
    # Values are summed around the mean of their group: equal values then have no spread at all.
    group_weight = np.bincount(codes, valid_weight)
    with np.errstate(invalid="ignore"):
        centre = np.bincount(codes, np.where(valid, value * weight, 0.0)) / group_weight
    deviation = np.where(valid, (value - centre[codes]) * weight, 0.0)
    sums = np.bincount(position, deviation, minlength=len(clusters)).astype(np.float64)
    weights = np.bincount(position, valid_weight, minlength=len(clusters)).astype(np.float64)
    first = np.searchsorted(clusters, np.arange(len(groups) + 1) * len(identities))
    total = np.bincount(codes, weight)
    samples = np.bincount(codes)
    reasons = _reasons(frame["reason"].iloc[order], codes, valid, weight, len(groups))
    rows: list[dict[str, object]] = []
    for group in range(len(groups)):
        part = slice(first[group], first[group + 1])
        rows.append(
            {
                **dict(zip(GROUP, groups[group], strict=True)),
                **_interval(sums[part], weights[part], float(centre[group])),
                "n": int(group_weight[group]),
                "total": int(total[group]),
                "samples": int(samples[group]),
                "reasons": reasons[group],
            }
        )
    return _typed(rows)


def reason_counts(reasons: str) -> dict[str, int]:
    """The `reasons` cell of an aggregate as a map from reason to count."""
    return {str(reason): int(count) for reason, count in json.loads(reasons).items()}


def _interval(sums: Floats, weights: Floats, centre: float) -> dict[str, float | int]:
    found = mean_interval(sums, weights)
    mean = found.mean + centre
    return {
        "mean": mean,
        "se": found.se,
        "margin": found.margin,
        "low": mean - found.margin,
        "high": mean + found.margin,
        "identities": found.units,
    }


def _sorted_codes(
    frame: pd.DataFrame, columns: Sequence[str]
) -> tuple[NDArray[Any], list[tuple[str, ...]]]:
    """Codes of the distinct value tuples, numbered in their sorted order, and those tuples."""
    combined = np.zeros(len(frame), dtype=np.int64)
    for column in columns:
        codes, distinct = pd.factorize(frame[column], sort=True)
        combined = combined * len(distinct) + codes
        # Renumbered each time: the product of all sizes could pass 2**63.
        _, combined = np.unique(combined, return_inverse=True)
    _, first = np.unique(combined, return_index=True)
    keys = [frame[column].iloc[first].astype(str).tolist() for column in columns]
    return combined, list(zip(*keys, strict=True))


def _refuse_duplicates(
    frame: pd.DataFrame,
    order: NDArray[Any],
    codes: NDArray[Any],
    case: NDArray[Any],
    sample: NDArray[Any],
) -> None:
    same = (codes[1:] == codes[:-1]) & (case[1:] == case[:-1]) & (sample[1:] == sample[:-1])
    if same.any():
        row = frame.iloc[order[int(np.argmax(same))]]
        raise ValueError(
            f"case {row['case_id']} sample {row['sample']} of run {row['run']} has two rows for "
            f"{row['column']} with fingerprint {row['fingerprint']}; each sample counts once"
        )


def _reasons(
    reasons: "pd.Series[str]",
    codes: NDArray[Any],
    valid: NDArray[Any],
    weight: NDArray[Any],
    groups: int,
) -> list[str]:
    counts: list[dict[str, int]] = [{} for _ in range(groups)]
    missing = ~valid
    reason, distinct = pd.factorize(reasons[missing].replace("", "unknown"), sort=True)
    pair, place = np.unique(codes[missing] * max(len(distinct), 1) + reason, return_inverse=True)
    for key, count in zip(pair, np.bincount(place, weight[missing]), strict=True):
        group, index = divmod(int(key), len(distinct))
        counts[group][str(distinct[index])] = int(count)
    return [json.dumps(count, sort_keys=True) for count in counts]


def _typed(rows: list[dict[str, object]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(AGGREGATE_FRAME)).astype(AGGREGATE_FRAME)
