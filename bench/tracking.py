"""Results into Weights & Biases or MLflow, which are imported only here and only on use."""

import math
import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pandas as pd

Tracker = Literal["wandb", "mlflow"]


def log_run(
    tracker: Tracker, aggregates: pd.DataFrame, run: Mapping[str, Any], *, project: str
) -> None:
    """Logs the aggregates of one run: means, coverage and interval ends as metrics.

    Where runs go (server, offline folder, credentials) is for the tracker's own settings.

    Raises:
        RuntimeError: If the tracker is not installed.
    """
    metrics = metrics_of(aggregates)
    settings = {
        "method": run["method"]["name"],
        "suite": run["suite"]["name"],
        "suite_sha256": run["suite"]["sha256"],
        "seed_policy": run["seed_policy"],
        **{f"args.{key}": value for key, value in (run["method"].get("args") or {}).items()},
    }
    if tracker == "wandb":
        _log_wandb(_library("wandb"), project, run["label"], settings, metrics)
    else:
        _log_mlflow(_library("mlflow"), project, run["label"], settings, metrics)


def log_step(
    tracker: Tracker, step: int, metrics: Mapping[str, float], grid: Path, *, project: str
) -> None:
    """Logs an evaluation of a training into the run that is active, or into a new one.

    Args:
        tracker: Where to.
        step: Of the training. In Weights & Biases it is the value "idbench/step" and the axis of
            the metrics: its own step belongs to the training loop.
        metrics: As from `metrics_of`.
        grid: A picture.
        project: Where no run is active.

    Raises:
        RuntimeError: If the tracker is not installed.
    """
    library: Any = _library(tracker)
    if tracker == "wandb":
        run = library.run or library.init(project=project)
        run.define_metric("idbench/step")
        for name in metrics:
            run.define_metric(name, step_metric="idbench/step")
        picture = {"idbench/grid": library.Image(str(grid))}
        run.log({**metrics, **picture, "idbench/step": step})
    else:
        if library.active_run() is None:
            library.set_experiment(project)
        library.log_metrics(dict(metrics), step=step)
        library.log_artifact(str(grid), "idbench")


def metrics_of(aggregates: pd.DataFrame) -> dict[str, float]:
    """Metric name to value; a missing mean is left out, its coverage of 0 is not.

    Names keep letters, digits, dots, dashes and underscores only: MLflow takes no others.
    """
    metrics: dict[str, float] = {}
    for row in aggregates.to_dict("records"):
        name = f"{safe_name(str(row['suite']))}/{safe_name(str(row['column']))}"
        values = {"": row["mean"], ".low": row["low"], ".high": row["high"]}
        metrics |= {
            f"{name}{end}": float(value) for end, value in values.items() if not math.isnan(value)
        }
        metrics[f"{name}.coverage"] = float(row["n"]) / max(float(row["total"]), 1.0)
    return metrics


def safe_name(name: str) -> str:
    """`facesim@strict[dlib]` as `facesim.strict.dlib`."""
    return re.sub(r"[^A-Za-z0-9_.-]+", ".", name).strip(".")


def _library(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise RuntimeError(f"{name} is not installed: pip install {name}") from error


def _log_wandb(
    wandb: Any, project: str, label: str, settings: Mapping[str, Any], metrics: Mapping[str, float]
) -> None:
    with wandb.init(project=project, name=label, config=dict(settings)) as logged:
        logged.log(dict(metrics))


def _log_mlflow(
    mlflow: Any, project: str, label: str, settings: Mapping[str, Any], metrics: Mapping[str, float]
) -> None:
    mlflow.set_experiment(project)
    with mlflow.start_run(run_name=label):
        mlflow.log_params({safe_name(key): value for key, value in settings.items()})
        mlflow.log_metrics(dict(metrics))
