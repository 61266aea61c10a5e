"""`idbench doctor`: versions, device, what is present and what each missing thing would unlock."""

import argparse
import importlib.util
import os

from idbench.commands.list import networks
from idbench.environment import EXTRAS, environment, missing_extras
from idbench.metrics.registry import list_metrics, missing_requirements
from idbench.prompts.sources import data_root

UNLOCKS = {
    "embedded": "the demo and all [mtcnn], [dlib] and [dlib68] metrics, without downloads",
    "metrics": "the papers' metrics: ArcFace, CLIP, DINO, pose and expression networks",
    "iqa": "MUSIQ and CLIP-IQA (pyiqa: non-commercial licence)",
    "methods": "the papers' methods on diffusers",
    "ray": "runs over many machines",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`idbench doctor` takes no arguments."""


def run(args: argparse.Namespace) -> int:
    """Prints what is here; always 0, since a missing extra is no fault."""
    device = _best_device()
    facts = environment(device)
    print(f"idbench {facts['idbench']}, Python {facts['python']}, {facts['platform']}")
    print(f"device  {facts['device']} ({facts['device_name']}), {os.cpu_count()} cores")
    print(f"data    {data_root()}")
    print("\nlibraries")
    for name, version in facts["libraries"].items():
        print(f"  {name:<24} {version}")
    print("\nextras")
    for extra in EXTRAS:
        missing = missing_extras([extra])
        print(f"  {extra:<10} {'complete' if not missing else 'missing ' + missing[0]}")
        if missing:
            print(f"             unlocks {UNLOCKS[extra]}")
    print("\nextractors")
    columns = {info.columns()[0]: networks(info.columns()[0]) for info in list_metrics()}
    for name in sorted({name for needs in columns.values() for name in needs}):
        missing = missing_requirements(name)
        print(f"  {name:<24} {'ready' if not missing else 'missing'}")
        for line in missing:
            print(f"      {line}")
        if missing:
            unlocked = [column for column, needs in columns.items() if name in needs]
            print(f"      unlocks {', '.join(unlocked)}")
    return 0


def _best_device() -> str:
    if importlib.util.find_spec("torch") is None:
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
