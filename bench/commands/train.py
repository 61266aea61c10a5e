"""`idbench train NAME CONFIG.yaml`: trains the part of a method that its paper trains."""

import argparse
import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import cast

from idbench.validation import validate

Report = Callable[[int, int, Mapping[str, float]], None]
Trainer = Callable[..., Path]

# name -> "module:function". The function reads the configuration strictly, resumes where its output
# folder left off, calls `report(step, steps, values)` after every optimizer step and returns the
# file or folder that holds the result. A wrong configuration is a ValueError naming file and key.
# One that has a parameter `validate` gets `idbench.validation.validate` for scores on the way.
TRAINERS = {
    "dynamicid-imr": "idbench.methods.dynamicid.train_imr:train",
    "dynamicid-saa": "idbench.methods.dynamicid.train_saa:train",
    "editidv2": "idbench.methods.editidv2.train:train",
    "flexip": "idbench.methods.flexip.train:train",
    "flexip-shards": "idbench.methods.flexip.packing:pack",
}


def load_trainer(name: str) -> Trainer:
    """The training function registered as `name`.

    Raises:
        LookupError: If there is none; the message lists the known ones.
    """
    if name not in TRAINERS:
        raise LookupError(f"unknown trainer {name!r}; known: {', '.join(sorted(TRAINERS))}")
    module, _, function = TRAINERS[name].partition(":")
    return cast(Trainer, getattr(import_module(module), function))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `idbench train`."""
    parser.add_argument("name", metavar="NAME", help=f"one of: {', '.join(sorted(TRAINERS))}")
    parser.add_argument("config", metavar="CONFIG.yaml", type=Path, help="the run's configuration")
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="print every Nth step (default: 1)"
    )


def run(args: argparse.Namespace) -> int:
    """Trains, or goes on training where the output folder left off."""

    def report(step: int, steps: int, values: Mapping[str, float]) -> None:
        if step % args.every == 0 or step == steps:
            numbers = "  ".join(f"{name} {value:.6g}" for name, value in values.items())
            print(f"step {step}/{steps}  {numbers}", flush=True)

    trainer = load_trainer(args.name)
    extras = {"validate": validate} if "validate" in inspect.signature(trainer).parameters else {}
    print(f"wrote {trainer(args.config, report, **extras)}")
    return 0
