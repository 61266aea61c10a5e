"""The method and the metrics that are tortured; copied into a session as a plug-in of its own.

They cost almost nothing, so that a run is all harness. Faults to commit are read from `faults.json`
beside the copy: name of a place to {"do": what, "times": how often}. A file counts what was
committed, because the process that commits one may not live to remember it.
"""

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from idbench.methods.protocol import Request
from idbench.metrics.extractor_entry import ExtractorEntry
from idbench.metrics.protocol import Features, Item, MetricInfo, Missing, Observation, Role

HERE = Path(__file__).parent
if __name__ == "idbench_torture":  # the copy, not this module
    # The networks of this workload are sums; without torch a worker starts in half the time.
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]


def due(place: str) -> str | None:
    """The fault to commit at a place now, if one is left."""
    try:
        fault = json.loads((HERE / "faults.json").read_text()).get(place)
    except FileNotFoundError:
        return None
    if fault is None:
        return None
    counter = HERE / f"committed-{place}"
    with counter.open("ab") as stream:
        stream.write(b".")
        return fault["do"] if stream.tell() <= fault["times"] else None


def commit(fault: str) -> Any:
    """Kills or hangs this process, exhausts its memory, or gives rubbish for an image."""
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "hang":
        time.sleep(3600)
    if fault == "memory":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        before = resource.getrlimit(resource.RLIMIT_AS)
        room = pages * resource.getpagesize() + (64 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (room, before[1]))
        try:
            return np.ones(1 << 28)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)
    return {"text": "no image", "nan": np.full((8, 8, 3), np.nan), "nothing": None}[fault]


class Painter:
    """One small picture per request, from its seed and its reference."""

    def generate(self, requests: Sequence[Request]) -> list[Any]:
        """Pictures, after the faults that are due; slowly while `slow` lies beside this file."""
        with (HERE / "made.txt").open("a") as log:
            log.writelines(f"{request.case_id}/{request.sample}\n" for request in requests)
        if (HERE / "slow").exists():
            time.sleep(0.2)
        answers: list[Any] = []
        for request in requests:
            fault = due(request.alias)
            if fault == "count":
                return []
            answers.append(commit(fault) if fault else _picture(request))
        return answers


def _picture(request: Request) -> Image.Image:
    chance = np.random.default_rng(request.seed)
    colour = np.asarray(request.references[0].image)[0, 0].astype(int)
    noise = chance.integers(0, 120, (12, 12, 3))
    return Image.fromarray(((noise + colour) % 256).astype(np.uint8))


class Sums:
    """Mean colour and contrast of an image."""

    name, needs, reads = "torture_sums", (), "image"

    def __init__(self, *, device: str, dtype: str) -> None:
        """Both are the harness's; sums need neither."""

    def fingerprint(self) -> Mapping[str, object]:
        """Name and version."""
        return {"name": self.name, "version": 1}

    def __call__(self, items: Sequence[Item]) -> list[Features | Missing]:
        """Sums per item, after the faults that are due."""
        found: list[Features | Missing] = []
        for item in items:
            fault = due("extract")
            if fault:
                commit(fault)
            pixels = np.asarray(item.image, dtype=np.float64)
            found.append({"mean": pixels.mean((0, 1)), "contrast": pixels.std((0, 1))})
        return found


SUMS = ExtractorEntry(target=f"{__name__}:Sums", extra="embedded")


class Likeness:
    """How near the mean colours of reference and image are."""

    info = MetricInfo(
        name="likeness",
        protocol="strict",
        backend="torture",
        summary="nearness of mean colours",
        unit="levels",
        higher_is_better=True,
        bounds=(-255, 0),
        axis="preservation",
    )
    needs: ClassVar[Mapping[Role, tuple[str, ...]]] = {
        "reference": ("torture_sums",),
        "generated": ("torture_sums",),
    }
    version = 1

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """Minus the mean absolute difference."""
        one = observation.get("reference", "torture_sums")["mean"]
        two = observation.get("generated", "torture_sums")["mean"]
        return {"": -float(np.abs(one - two).mean())}


class Contrast:
    """Standard deviation of the levels; none for a picture darker than 100 levels."""

    info = MetricInfo(
        name="contrast",
        protocol="strict",
        backend="torture",
        summary="spread of the levels",
        unit="levels",
        higher_is_better=None,
        bounds=(0, 128),
        axis="quality",
        variants=("red", "green"),
    )
    needs: ClassVar[Mapping[Role, tuple[str, ...]]] = {"generated": ("torture_sums",)}
    version = 1

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """The spread per channel."""
        found = observation.get("generated", "torture_sums")
        if found["mean"].mean() < 100:
            return dict.fromkeys(self.info.variants, Missing("too_dark"))
        return {"red": float(found["contrast"][0]), "green": float(found["contrast"][1])}
