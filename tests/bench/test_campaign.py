"""The cost of a campaign; every expected number is worked out by hand beside it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from idbench.campaign import Cluster, read_campaign, simulate
from idbench.campaign_text import campaign_table
from idbench.generate import GenerateOptions, generate
from idbench.method_spec import MethodSpec
from idbench.prompts.suites import Suite
from idbench.store import RunStore

CAMPAIGN: dict[str, Any] = {
    "suites": [{"name": "mine", "images": 100}],
    "methods": [
        {"name": "slow", "seconds_per_image": 10, "load_seconds": 60, "megabytes_per_image": 1.5}
    ],
    "cluster": {"nodes": 2, "gpus_per_node": 4, "cpus_per_node": 16, "price_per_gpu_hour": 3},
}
SCORING = {"seconds_per_image": 2, "load_seconds": 5, "megabytes_per_image": 0.5, "gpus": 0.25}


def written(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "campaign.yaml"
    path.write_text(yaml.safe_dump(CAMPAIGN | changes))
    return path


def simulated(tmp_path: Path, **changes: Any) -> Any:
    return simulate(read_campaign(written(tmp_path, **changes)), tmp_path)


def test_one_method_on_one_suite(tmp_path: Path) -> None:
    found = simulated(tmp_path)
    (run,) = found.runs
    # 2 nodes x 4 GPUs = 8 workers; 100 images are 12 waves of 8 and one of 4.
    assert run.generation.workers == 8
    assert found.wall_hours * 3600 == pytest.approx(60 + 13 * 10)
    # 100 x 10 s at work, and 8 workers load for 60 s; 8 GPUs are reserved for 190 s.
    assert found.gpu_hours * 3600 == pytest.approx(1000 + 480)
    assert found.gpu_hours_reserved * 3600 == pytest.approx(8 * 190)
    assert found.price == pytest.approx(3 * 8 * 190 / 3600)
    assert found.gigabytes == pytest.approx(0.15)
    # 130 s of waves for 100 x 10 / 8 = 125 s of work
    assert found.parts["generation"] == pytest.approx(125)
    assert found.parts["loading"] == pytest.approx(60)
    assert found.parts["last wave"] == pytest.approx(5)
    assert found.bottleneck == "generation"


def test_scoring_follows_or_overlaps(tmp_path: Path) -> None:
    found = simulated(tmp_path, scoring=SCORING)
    (run,) = found.runs
    # 4 on each of 8 GPUs: 32 workers, 4 waves of 2 s after 5 s of loading
    assert run.scoring.workers == 32
    assert found.wall_hours * 3600 == pytest.approx(190 + 13)
    assert found.parts["scoring"] == pytest.approx(13)
    assert found.gpu_hours * 3600 == pytest.approx(1480 + 0.25 * (200 + 32 * 5))
    assert found.gigabytes == pytest.approx(0.2)
    over = simulated(tmp_path, scoring=SCORING, overlap=True)
    assert over.wall_hours * 3600 == pytest.approx(190)
    assert over.parts["scoring"] == 0


def test_slow_disks_are_the_bottleneck(tmp_path: Path) -> None:
    cluster = CAMPAIGN["cluster"] | {"write_megabytes_per_second": 0.5, "storage_gigabytes": 0.1}
    found = simulated(tmp_path, cluster=cluster)
    # 150 MB at 0.5 MB/s
    assert found.wall_hours * 3600 == pytest.approx(300)
    assert found.bottleneck == "disk writes"
    assert found.warnings == ["0.1 GB do not fit on 0.1 GB of storage"]


def test_loading_is_the_bottleneck_of_small_suites(tmp_path: Path) -> None:
    found = simulated(tmp_path, suites=[{"name": "tiny", "images": 3}])
    # 3 images need 3 workers: 60 s of loading, 10 s of work
    assert found.runs[0].generation.workers == 3
    assert found.gpu_hours * 3600 == pytest.approx(3 * 70)
    assert found.bottleneck == "loading"


def test_methods_times_suites_are_runs_one_after_another(tmp_path: Path) -> None:
    methods = [*CAMPAIGN["methods"], {"name": "fast", "seconds_per_image": 1, "gpus": 0.5}]
    suites = [{"name": "mine", "images": 100}, {"name": "large", "images": 1600}]
    found = simulated(tmp_path, methods=methods, suites=suites)
    # slow: 190 s, and 60 + 200 waves of 10 s; fast has 16 workers: 7 waves, and 100, of 1 s
    assert [run.seconds for run in found.runs] == pytest.approx([190, 2060, 7, 100])
    assert found.wall_hours * 3600 == pytest.approx(2357)


def test_a_worker_is_busy_with_whole_batches(tmp_path: Path) -> None:
    methods = [{"name": "batched", "seconds_per_image": 1, "images_at_once": 16}]
    found = simulated(tmp_path, methods=methods)
    # 100 images are 7 batches for 8 workers: 7 at work, each for one batch of 16 s
    assert found.runs[0].generation.workers == 7
    assert found.wall_hours * 3600 == pytest.approx(16)


@pytest.mark.parametrize(
    ("gpus", "cpus", "workers"),
    [
        (1, 1, 16),  # 2 nodes x 8 GPUs
        (2, 1, 8),
        (3, 1, 4),  # two of three GPUs each on a node; two GPUs stay free
        (0.25, 1, 64),
        (0.75, 1, 16),  # a second one does not fit into the same GPU
        (0, 4, 32),  # 64 CPUs on a node
        (0.1, 8, 16),  # 80 by GPU, 8 by CPU on a node
        (16, 1, 0),
    ],
)
def test_workers_that_fit(gpus: float, cpus: float, workers: int) -> None:
    cluster = Cluster(nodes=2, gpus_per_node=8, cpus_per_node=64)
    assert cluster.workers(gpus, cpus) == workers


def test_a_worker_that_fits_nowhere_is_named(tmp_path: Path) -> None:
    methods = [{"name": "huge", "seconds_per_image": 1, "gpus": 8}]
    with pytest.raises(ValueError, match=r"method huge: a worker takes 8 GPUs .* has 4 and 16"):
        simulated(tmp_path, methods=methods)


def test_costs_are_measured_on_a_run(pictures: Suite, tmp_path: Path) -> None:
    options = GenerateOptions(workspace=tmp_path / "runs", data_root=tmp_path / "data")
    (done,) = generate(pictures, [MethodSpec(name="copy")], options)
    methods = [{"name": "copy", "run": str(done.directory)}]
    found = simulated(tmp_path, methods=methods)
    with RunStore.open(done.directory) as store:
        samples = store.samples("ok")
    seconds = sum(float(sample.seconds or 0) for sample in samples) / 6
    size = sum((done.directory / str(sample.path)).stat().st_size for sample in samples) / 6
    assert found.wall_hours * 3600 == pytest.approx(13 * seconds)
    assert found.gigabytes == pytest.approx(100 * size / 1e9)


def test_a_method_without_costs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="seconds_per_image, or a run"):
        simulated(tmp_path, methods=[{"name": "unknown"}])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clusters": {}}, "clusters: Unexpected keyword"),
        ({"cluster": {"nodes": 1, "gpus_per_node": 1, "gpu": "H100"}}, "cluster.gpu: Unexpected"),
        ({"cluster": {"nodes": 0, "gpus_per_node": 1}}, "cluster.nodes: .* greater than or equal"),
        ({"cluster": {"nodes": "2", "gpus_per_node": 1}}, "cluster.nodes: .* valid integer"),
        ({"methods": [{"name": "a", "seconds_per_image": -1}]}, "seconds_per_image"),
        ({"suites": []}, "suites"),
    ],
)
def test_unknown_and_wrong_keys_are_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_campaign(written(tmp_path, **changes))


def test_the_table_has_every_run_and_the_totals(tmp_path: Path) -> None:
    lines = campaign_table(simulated(tmp_path, scoring=SCORING)).splitlines()
    assert lines[1].split() == ["slow", "mine", "100", "8", "0.44", "0.06", "0.20"]
    # 125, 60, 13 and 5 of 203 s
    assert lines[-1] == (
        "bottleneck  generation (generation 62 %, loading 30 %, scoring 6 %, last wave 2 %)"
    )


def test_the_verb_prints_the_example_of_its_help(tmp_path: Path) -> None:
    from idbench.commands.plan import EXAMPLE

    values = yaml.safe_load(EXAMPLE.partition("\n")[2])
    values["methods"] = values["methods"][:1]  # the other one needs a run
    path = tmp_path / "campaign.yaml"
    path.write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "idbench", "plan", "--simulate", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    # 5,000 images, 32 workers: 90 s and 157 waves of 18 s; scoring 128 workers, 40 waves of 0.9 s
    row = next(line.split() for line in done.stdout.splitlines() if " mine " in line)
    assert row[2:4] == ["5,000", "32"]
    assert float(row[5]) == pytest.approx((90 + 157 * 18 + 40 * 0.9) / 3600, abs=0.006)
