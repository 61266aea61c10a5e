"""mRank: the mean rank of each method over the columns of a table (FlexIP, Table 1)."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from idbench.metrics.protocol import MetricInfo

Ties = Literal["min", "average", "max", "ordinal"]

MRANK = MetricInfo(
    name="mrank",
    protocol="strict",
    backend="min",
    summary="mean rank over the columns of a table; made by `idbench table --mrank`",
    unit="rank",
    higher_is_better=False,
    bounds=(1.0, math.inf),
    axis="quality",
    papers=("FlexIP",),
)


def mrank(
    table: Mapping[str, Sequence[float]],
    higher_is_better: Sequence[bool],
    ties: Ties = "min",
) -> dict[str, float]:
    """Mean over columns of each method's rank, 1 for the best.

    Args:
        table: Method to its values, one per column.
        higher_is_better: Direction of each column.
        ties: Rank of equal values: "min" (competition, as the printed table has it), "average",
            "max", or "ordinal", which breaks ties by the order of the table.

    Raises:
        ValueError: If rows have other lengths than `higher_is_better`, a value is not finite, or
            the table is empty.
    """
    from scipy.stats import rankdata  # slow to import, and the names above are read for help

    if not table:
        raise ValueError("mRank needs at least one method")
    columns = len(higher_is_better)
    wrong = {method: len(row) for method, row in table.items() if len(row) != columns}
    if wrong or not columns:
        raise ValueError(f"mRank needs {columns or 'some'} values per method, got {wrong}")
    values = np.array([list(row) for row in table.values()], np.float64)
    if not np.isfinite(values).all():
        missing = [m for m, row in table.items() if not np.isfinite(row).all()]
        raise ValueError(f"mRank needs every value, missing in {', '.join(missing)}")
    signs = np.where(np.asarray(higher_is_better, bool), -1.0, 1.0)
    ranks = rankdata(values * signs, method=ties, axis=0)
    return {method: float(rank) for method, rank in zip(table, ranks.mean(axis=1), strict=True)}
