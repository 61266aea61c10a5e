import json
import math

import pandas as pd
import pytest

from idbench.aggregate import AGGREGATE_FRAME
from idbench.lm_eval import results_document
from idbench.records import Column
from idbench.tracking import log_run, metrics_of, safe_name


def column(name, higher=True, fingerprint="f"):
    return Column(
        name=name,
        fingerprint=fingerprint,
        unit="cosine",
        higher_is_better=higher,
        low=-1.0,
        high=1.0,
        axis="preservation",
        comparable_to_published=True,
        details="{}",
    )


FACESIM, FID = column("facesim@strict[dlib]"), column("fid@ibench[inception]", higher=False)
RUN = {
    "label": "blur 2 px",
    "method": {"name": "blur", "args": {"sigma": 2.0}},
    "suite": {"name": "demo", "version": 3, "sha256": "a" * 64},
    "seed_policy": "hashed",
    "environment": {"device": "cpu"},
}


def aggregates(**changes):
    shared = {"suite": "demo", "label": "blur 2 px", "run": "blur-1", "samples": 21}
    rows = [
        shared
        | {"column": FACESIM.name, "fingerprint": "f", "mean": 0.7, "se": 0.01, "margin": 0.02,
           "low": 0.68, "high": 0.72, "n": 20, "total": 21, "identities": 7,
           "reasons": '{"no_face": 1}'},
        shared
        | {"column": FID.name, "fingerprint": "f", "mean": 12.5, "se": math.nan,
           "margin": math.nan, "low": math.nan, "high": math.nan, "n": 21, "total": 21,
           "identities": 0, "reasons": "{}"},
    ]  # fmt: skip
    return (
        pd.DataFrame(rows, columns=list(AGGREGATE_FRAME)).assign(**changes).astype(AGGREGATE_FRAME)
    )


def as_lm_eval_reads_it(document):
    """Rows of the table that lm-evaluation-harness makes of a results document.

    Its make_table: keys of a task are "metric,filter"; "..._stderr" belong to the metric before.
    """
    rows = []
    for task, found in document["results"].items():
        version = document["versions"].get(task, "N/A")
        shots = str(document["n-shot"].get(task, " "))
        better = document["higher_is_better"].get(task, {})
        found = dict(found)
        found.pop("alias")
        for key in sorted(found):
            metric, _, filtered = key.partition(",")
            if metric.endswith("_stderr"):
                continue
            arrow = {True: "↑", False: "↓"}.get(better.get(metric), "")
            error = found[f"{metric}_stderr,{filtered}"]
            rows.append((task, version, filtered, shots, metric, arrow, found[key], error))
    return rows


def test_document_reads_like_results_of_lm_evaluation_harness():
    document = json.loads(json.dumps(results_document(aggregates(), [FACESIM, FID], RUN)))
    assert as_lm_eval_reads_it(document) == [
        ("demo", 3, "none", "0", "facesim@strict[dlib]", "↑", 0.7, 0.01),
        ("demo", 3, "none", "0", "fid@ibench[inception]", "↓", 12.5, "N/A"),
    ]
    assert document["config"]["model"] == "blur"
    assert document["config"]["model_args"] == "sigma=2.0"
    assert document["n-samples"]["demo"] == {"original": 21, "effective": 20}


def test_coverage_and_intervals_travel_with_the_numbers():
    document = results_document(aggregates(), [FACESIM, FID], RUN)
    found = document["idbench"]["coverage"]["demo"]["facesim@strict[dlib]"]
    assert (found["n"], found["total"], found["missing"]) == (20, 21, {"no_face": 1})
    assert found["ci95"] == [0.68, 0.72]
    assert document["idbench"]["coverage"]["demo"]["fid@ibench[inception]"]["ci95"] == [None, None]


def test_missing_mean_is_null_and_the_document_is_plain_json():
    document = results_document(aggregates(mean=math.nan, se=math.nan), [FACESIM, FID], RUN)
    assert document["results"]["demo"]["facesim@strict[dlib],none"] is None
    json.dumps(document, allow_nan=False)


def test_two_runs_or_fingerprints_do_not_share_a_document():
    twice = pd.concat([aggregates(), aggregates(run="other")])
    with pytest.raises(ValueError, match="one run at a time, got 2"):
        results_document(twice, [FACESIM, FID], RUN)
    other = column(FACESIM.name, fingerprint="g")
    both = pd.concat([aggregates(), aggregates(fingerprint="g")])
    with pytest.raises(ValueError, match="two fingerprints in this run"):
        results_document(both, [FACESIM, FID, other], RUN)


def test_metrics_for_trackers_have_names_that_every_tracker_takes():
    found = metrics_of(aggregates())
    assert found == {
        "demo/facesim.strict.dlib": 0.7,
        "demo/facesim.strict.dlib.low": 0.68,
        "demo/facesim.strict.dlib.high": 0.72,
        "demo/facesim.strict.dlib.coverage": 20 / 21,
        "demo/fid.ibench.inception": 12.5,
        "demo/fid.ibench.inception.coverage": 1.0,
    }
    assert safe_name("a@b[c] <d>") == "a.b.c.d"


@pytest.mark.filterwarnings("ignore")  # mlflow warns of its own deprecations
def test_mlflow_receives_the_numbers(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="needs mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    log_run("mlflow", aggregates(), RUN, project="p")
    (run,) = mlflow.search_runs(experiment_names=["p"], output_format="list")
    assert run.data.metrics["demo/facesim.strict.dlib"] == 0.7
    assert run.data.params["args.sigma"] == "2.0"


@pytest.mark.filterwarnings("ignore")  # so does wandb
def test_wandb_receives_the_numbers(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    log_run("wandb", aggregates(), RUN, project="p")
    assert list(tmp_path.glob("**/run-*.wandb"))


def test_absent_tracker_says_how_to_get_it(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(RuntimeError, match="wandb is not installed: pip install wandb"):
        log_run("wandb", aggregates(), RUN, project="p")
