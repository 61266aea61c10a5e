"""Results into Weights & Biases or MLflow, which are imported only here and only on use."""

import math
import re
from collections.abc import Mapping
from importlib import import_module
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
