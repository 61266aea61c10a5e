"""Cost of a method per denoising step, beside its base model in the same process."""

import argparse
from importlib import import_module
from typing import cast

# method -> "module:function"; the function takes (size, device, steps) and returns a text
BENCHMARKS = {
    "dynamicid": "idbench.methods.dynamicid.performance:measure",
    "editedid": "idbench.methods.editedid.performance:measure",
    "editid": "idbench.methods.editid.performance:measure",
    "editidv2": "idbench.methods.editidv2.performance:measure",
    "flexid": "idbench.methods.flexid.performance:measure",
    "flexip": "idbench.methods.flexip.performance:measure",
    "pulid-flux": "idbench.methods.pulid.performance:measure",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `idbench perf method`."""
    parser.add_argument("name", metavar="NAME", help=f"one of: {', '.join(sorted(BENCHMARKS))}")
    parser.add_argument(
        "--size",
        choices=("full", "tiny"),
        default="tiny",
        help="full: the published architecture; tiny: a few narrow blocks. Random weights",
    )
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    parser.add_argument(
        "--steps", type=int, default=20, help="denoising steps to time (default: 20)"
    )


def measure(args: argparse.Namespace) -> str:
    """Times the method named and its base model; returns a table.

    Raises:
        LookupError: If the method has no such benchmark.
    """
    if args.name not in BENCHMARKS:
        known = ", ".join(sorted(BENCHMARKS))
        raise LookupError(f"no benchmark for method {args.name!r}; known: {known}")
    module, _, function = BENCHMARKS[args.name].partition(":")
    benchmark = getattr(import_module(module), function)
    return cast(str, benchmark(args.name, size=args.size, device=args.device, steps=args.steps))
