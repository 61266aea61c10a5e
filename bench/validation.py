"""Scores of a method on the way: what a training asks the harness for."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from idbench.aggregate import aggregate
from idbench.evaluate import ScoreOptions, score
from idbench.generate import GenerateOptions, generate
from idbench.method_spec import MethodSpec
from idbench.prompts.sources import data_root
from idbench.prompts.suites import load_suite
from idbench.store import load_frame


def validate(
    *,
    method: str,
    args: Mapping[str, object],
    suite: str,
    metrics: Sequence[str],
    workspace: Path,
    limit: int | None = None,
    device: str = "cpu",
    dtype: str = "float32",
) -> dict[str, float]:
    """Makes the images of a method over a suite and scores them.

    Returns the mean of every column and, as `<column> coverage`, the share of samples behind it. A
    column without a value is left out, its coverage of 0 is not.

    Args:
        method: A name of `idbench list methods`.
        args: Its parameters.
        suite: A name of `idbench list suites`, or a folder.
        metrics: Names of `idbench list metrics`.
        workspace: Folder of the runs.
        limit: Cases of the suite, from its start; None for all.
        device: Of method and networks.
        dtype: Of the method.

    Raises:
        LookupError: If a name is unknown.
        ValueError: If the parameters are wrong, or the method cannot do the suite.
    """
    root = data_root()
    loaded = load_suite(suite, data_root=root)
    target = str(Path(suite).resolve()) if Path(suite).exists() else None
    options = GenerateOptions(
        workspace=workspace,
        data_root=root,
        suite_target=target,
        limit=limit,
        device=device,
        dtype=dtype,
    )
    (done,) = generate(loaded, [MethodSpec(name=method, args=args)], options)
    # In this process: the training beside it needs the cores.
    scoring = ScoreOptions(workspace=workspace, data_root=root, device=device, workers=1)
    score([(done.directory, loaded)], metrics, scoring)
    frame, _ = load_frame([done.directory])
    values: dict[str, float] = {}
    means = aggregate(frame)
    for column, mean, valid, total in zip(
        means["column"], means["mean"], means["n"], means["total"], strict=True
    ):
        if not math.isnan(mean):
            values[column] = float(mean)
        values[f"{column} coverage"] = valid / total
    return values
