"""Dominance, fronts and dominated volume of points whose axes have a better direction (pure).

Points are arrays of shape (points, axes); `higher` says, per axis, whether larger is better.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from idbench.intervals import DRAWS, Floats, draw_counts

Booleans = NDArray[np.bool_]


def oriented(points: Floats, higher: Sequence[bool]) -> Floats:
    """Points with every axis turned so that larger is better.

    Raises:
        ValueError: If the number of axes differs.
    """
    if points.shape[-1] != len(higher):
        raise ValueError(f"points have {points.shape[-1]} axes, directions are {len(higher)}")
    return np.where(np.asarray(higher), points, -points)


def dominates(points: Floats, higher: Sequence[bool]) -> Booleans:
    """Entry [i, j]: point i is at least as good as j on every axis and better on one.

    A point with a missing (NaN) axis neither dominates nor is dominated.
    """
    turned = oriented(np.asarray(points, dtype=np.float64), higher)
    one, other = turned[:, None, :], turned[None, :, :]
    result: Booleans = np.logical_and((one >= other).all(axis=-1), (one > other).any(axis=-1))
    return result


def front(points: Floats, higher: Sequence[bool]) -> Booleans:
    """Which points no other dominates. Equal points are on the front together; NaN never is."""
    values = np.asarray(points, dtype=np.float64)
    complete = ~np.any(np.isnan(values), axis=-1)
    result: Booleans = np.logical_and(complete, ~dominates(values, higher).any(axis=0))
    return result


def membership(draws: Floats, higher: Sequence[bool]) -> Floats:
    """Share of draws in which each point is on the front; `draws` is (draws, points, axes)."""
    found = np.zeros(draws.shape[1])
    for drawn in draws:
        found += front(drawn, higher)
    return found / len(draws)


def hypervolume(points: Floats, higher: Sequence[bool], reference: Sequence[float]) -> float:
    """Volume (area in 2-D) that the points dominate down to a reference point, which is worse.

    Parts of points beyond the reference count nothing. Incomplete points are left out.
    """
    turned = oriented(np.asarray(points, dtype=np.float64), higher)
    turned = turned - oriented(np.asarray(reference, dtype=np.float64), higher)
    turned = turned[(turned > 0).all(-1)]
    return _volume(turned)


def _volume(points: Floats) -> float:
    """Volume of the union of boxes from the origin to each point, by slices of the last axis."""
    if len(points) == 0:
        return 0.0
    if points.shape[1] == 1:
        return float(points.max())
    order = np.argsort(-points[:, -1], kind="stable")
    heights = np.append(points[order, -1], 0.0)
    total = 0.0
    for count in range(1, len(order) + 1):
        thickness = heights[count - 1] - heights[count]
        if thickness > 0:
            total += thickness * _volume(points[order[:count], :-1])
    return total


def knee(points: Floats, higher: Sequence[bool]) -> int | None:
    """Index of the knee: the point of the front farthest beyond the line between its ends (2-D).

    Axes are scaled to the range of the front. None if the front has fewer than three points.
    """
    turned = oriented(np.asarray(points, dtype=np.float64), higher)
    members = np.flatnonzero(front(points, higher))
    if turned.shape[1] != 2 or len(members) < 3:
        return None
    low, high = turned[members].min(0), turned[members].max(0)
    if (low == high).any():
        return None
    # Between the ends (1, 0) and (0, 1) of the scaled front the line is x + y = 1.
    beyond = ((turned[members] - low) / (high - low)).sum(1)
    best = int(np.argmax(beyond))
    return int(members[best]) if beyond[best] > 1 else None


def bootstrap_means(
    frame: pd.DataFrame, runs: Sequence[str], keys: Sequence[tuple[str, str]]
) -> Floats:
    """Means of runs on columns, over resampled identities that all runs and columns share.

    Args:
        frame: Scores (`SCORE_FRAME`) of one suite.
        runs: Which runs, in the order of the result.
        keys: Name and fingerprint of each column, in the order of the result.

    Returns:
        Means of shape (draws, runs, columns), NaN where a draw has no value.
    """
    identities = {name: place for place, name in enumerate(sorted(frame["identity"].unique()))}
    counts = draw_counts(len(identities))
    means = np.full((DRAWS, len(runs), len(keys)), np.nan)
    ordered = frame.sort_values(["case_id", "sample"], kind="stable")
    for axis, (column, fingerprint) in enumerate(keys):
        part = ordered[(ordered["column"] == column) & (ordered["fingerprint"] == fingerprint)]
        for place, run in enumerate(runs):
            rows = part[(part["run"] == run) & np.isfinite(part["value"])]
            cluster = rows["identity"].map(identities).to_numpy(np.int64)
            weight = rows["multiplicity"].to_numpy(np.float64)
            sums = np.bincount(cluster, rows["value"] * weight, minlength=len(identities))
            weights = np.bincount(cluster, weight, minlength=len(identities))
            drawn = np.einsum("du,uk->dk", counts, np.stack([sums, weights], axis=1))
            np.divide(drawn[:, 0], drawn[:, 1], out=means[:, place, axis], where=drawn[:, 1] > 0)
    return means
