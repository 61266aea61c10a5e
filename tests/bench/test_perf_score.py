"""`idbench perf score` on reduced networks: that it measures what it says."""

import argparse
import re

import pytest

from idbench import perf_loops, perf_score
from idbench.metrics.published_metrics import GROUPS
from idbench.metrics.registry import resolve, resolve_sets


def test_the_loops_make_the_passes_that_were_counted_in_the_original():
    """Section C of the metric specification, column "IBench all", with a cold reference cache."""
    decodes = {"W": 0, "O": 0, "R": 0}
    passes: dict[tuple[str, str], int] = {}
    for uses in perf_loops.LOOPS.values():
        for image, (count, networks) in uses.items():
            if image in decodes:
                decodes[image] += count
            for network in networks:
                passes[network, image] = passes.get((network, image), 0) + 1
    assert decodes == {"W": 18, "O": 5, "R": 14}
    assert [passes["antelopev2", image] for image in "WOR"] == [3, 3, 4]
    assert [passes["mtcnn", image] for image in "WR"] == [3, 3]
    assert [passes["proposals", image] for image in "WR"] == [3, 3]
    clip = sum(count for (network, _), count in passes.items() if "clip_l14.image" in network)
    assert clip == 4
    assert passes["clip_l14.text", "text"] == 1
    assert sum(count for (network, _), count in passes.items() if network == "inception") == 2
    assert passes["musiq_spaq.ibench", "W"] == 1
    for network in ("hopenet.ibench", "fer-vgg19.ibench"):
        assert [passes[network, image] for image in "WR"] == [1, 1]
    dino = sum(count for (network, _), count in passes.items() if network.startswith("dinov2"))
    assert dino == 4


def test_both_ways_compute_the_same_metrics():
    names = GROUPS["ibench_all"]
    metrics = {m.info.name for m in [*resolve(names), *resolve_sets(names)]}
    loops = {name.removesuffix("1").removesuffix("2") for name in perf_loops.LOOPS}
    assert {name.partition(".")[0] for name in metrics} == loops


def test_the_report_states_both_times_their_ratio_and_the_stages(capsys):
    pytest.importorskip("pyiqa")
    parser = argparse.ArgumentParser()
    perf_score.add_arguments(parser)
    arguments = ["--tiny", "--identities", "1", "--prompts", "1", "--side", "256", "--clock", "cpu"]
    text = perf_score.measure(parser.parse_args(arguments))
    assert "random weights of reduced networks: scores mean nothing" in text

    def numbers(name):
        (line,) = re.findall(rf"^{name} {{2,}}(.*)$", text, re.MULTILINE)
        return [float(word) for word in line.split()]

    loop, engine, bare = map(numbers, ("per-metric loop", "engine", "bare networks"))
    # Of one item: seconds by the clock and of the CPU, and one item by either.
    for wall, rate, cpu, cpu_rate in (loop, engine):
        assert rate == pytest.approx(1 / wall, rel=0.1)
        assert cpu_rate == pytest.approx(1 / cpu, rel=0.1)
    for place, clock in ((0, 0), (1, 2)):
        ratio = numbers("loop / engine")[place]
        assert ratio == pytest.approx(loop[clock] / engine[clock], rel=0.1)
        overhead = numbers("engine / networks")[place]
        assert overhead == pytest.approx(engine[clock] / bare[clock], rel=0.1)
        assert overhead >= 1
    for stage in ("mtcnn", "antelopev2", "clip_l14.image.ibench", "inception", "proposals"):
        assert re.search(rf"^{re.escape(stage)}\s", text, re.MULTILINE)


def test_a_number_below_one_is_refused():
    parser = argparse.ArgumentParser()
    perf_score.add_arguments(parser)
    with pytest.raises(ValueError, match="prompts must be at least 1"):
        perf_score.measure(parser.parse_args(["--prompts", "0"]))
