"""mRank over a table of runs: where a method stands over all columns at once, as FlexIP prints."""

import math
from collections.abc import Sequence

import pandas as pd

from idbench.aggregate import AGGREGATE_FRAME
from idbench.canonical import canonical_json, fingerprint
from idbench.metrics.mrank import MRANK, Ties, mrank
from idbench.records import Column


def with_mean_rank(
    aggregates: pd.DataFrame, columns: Sequence[Column], ties: Ties = "min"
) -> tuple[pd.DataFrame, list[Column]]:
    """Aggregates and columns with the mean rank of each run as the last column.

    Runs are ranked within their suite over the columns that have a better direction, by the means
    as they are and not as they are printed. A run that lacks one of the columns has no mean rank
    and takes no part in the ranking of the others. The coverage of a mean rank is the least of the
    coverages that it stands on; it has no interval.

    Args:
        aggregates: What `idbench.aggregate.aggregate` returned.
        columns: The columns of the table.
        ties: Rank of equal means.

    Raises:
        ValueError: If no column has a better direction.
    """
    ranked = [column for column in columns if column.higher_is_better is not None]
    if not ranked:
        raise ValueError("a mean rank needs a column that has a better direction")
    details = {
        "metric": MRANK.name,
        "version": 1,
        "ties": ties,
        "columns": [[column.name, column.fingerprint] for column in ranked],
    }
    column = Column(
        name=f"{MRANK.name}@{MRANK.protocol}[{ties}]",
        fingerprint=fingerprint(details),
        unit=MRANK.unit,
        higher_is_better=MRANK.higher_is_better,
        low=MRANK.bounds[0],
        high=MRANK.bounds[1],
        axis=MRANK.axis,
        comparable_to_published=MRANK.comparable_to_published,
        details=canonical_json(details),
    )
    rows = [
        row
        for _, suite in aggregates.groupby("suite", sort=True)
        for row in _rows(suite, ranked, column, ties)
    ]
    added = pd.DataFrame(rows, columns=list(AGGREGATE_FRAME)).astype(AGGREGATE_FRAME)
    return pd.concat([aggregates, added], ignore_index=True), [*columns, column]


def _rows(
    suite: pd.DataFrame, ranked: Sequence[Column], column: Column, ties: Ties
) -> list[dict[str, object]]:
    wanted = [(each.name, each.fingerprint) for each in ranked]
    here = set(zip(suite["column"], suite["fingerprint"], strict=True))
    present = [place for place, key in enumerate(wanted) if key in here]
    runs = {
        (str(label), str(run)): part.set_index(["column", "fingerprint"]).to_dict("index")
        for (label, run), part in suite.groupby(["label", "run"], sort=True)
    }
    means = {
        key: [
            float(part[wanted[place]]["mean"]) if wanted[place] in part else math.nan
            for place in present
        ]
        for key, part in runs.items()
    }
    whole = {key: row for key, row in means.items() if all(map(math.isfinite, row))}
    directions = [bool(ranked[place].higher_is_better) for place in present]
    ranks = _ranks(whole, directions, ties)
    rows: list[dict[str, object]] = []
    for (label, run), part in runs.items():
        used = [part[wanted[place]] for place in present if wanted[place] in part]
        rank = ranks.get((label, run))
        total = max((int(each["total"]) for each in used), default=0)
        rows.append(
            {
                "suite": str(suite["suite"].iloc[0]),
                "label": label,
                "run": run,
                "column": column.name,
                "fingerprint": column.fingerprint,
                "mean": math.nan if rank is None else rank,
                **dict.fromkeys(("se", "margin", "low", "high"), math.nan),
                "n": 0 if rank is None else min(int(each["n"]) for each in used),
                "total": total,
                "samples": max((int(each["samples"]) for each in used), default=0),
                "identities": 0,
                "reasons": canonical_json({"no_value_in_a_column": total} if rank is None else {}),
            }
        )
    return rows


def _ranks(
    rows: dict[tuple[str, str], list[float]], directions: Sequence[bool], ties: Ties
) -> dict[tuple[str, str], float]:
    if not rows or not directions:
        return {}
    names = {f"{place}": key for place, key in enumerate(rows)}
    table = {name: rows[key] for name, key in names.items()}
    return {names[name]: rank for name, rank in mrank(table, directions, ties).items()}
