"""The flags that several verbs share."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from idbench.config import RunConfig
from idbench.evaluate import ScoreOptions
from idbench.generate import GenerateOptions, shard_folder
from idbench.prompts.sources import data_root
from idbench.work_queue import never


def add_compute(parser: argparse.ArgumentParser) -> None:
    """Adds batch size, workers, device, dtype, time limit and executor."""
    parser.add_argument(
        "--batch-size", type=_count_or_auto, metavar="N", help="images per batch (default auto)"
    )
    parser.add_argument(
        "--workers",
        type=_count_or_auto,
        metavar="N",
        help="worker processes (default auto: one per device; to score on the CPU one per core; "
        "on Ray as many as there is room for); results do not depend on it",
    )
    parser.add_argument(
        "--device", metavar="NAME", help="cpu (default), cuda, cuda:0,cuda:1, cuda:* (all), mps"
    )
    parser.add_argument(
        "--dtype", choices=["float32", "float16", "bfloat16"], help="default float32"
    )
    parser.add_argument(
        "--retry-failed", action="store_true", default=None, help="try failed samples again"
    )
    _add_executor(parser)


def add_generate(parser: argparse.ArgumentParser) -> None:
    """Adds what `generate` and `run` are told."""
    parser.add_argument("config", nargs="?", type=Path, metavar="CONFIG.yaml")
    parser.add_argument("--suite", metavar="NAME", help="a name of `idbench list suites` or a path")
    parser.add_argument(
        "--method",
        action="append",
        metavar="NAME",
        help="a name of `idbench list methods`, python:pkg.module:Name, images:FOLDER, "
        "command:PROGRAM, diffusers:RECIPE, http:SERVICE or comfyui:WORKFLOW.json; may be repeated",
    )
    parser.add_argument(
        "--method-args",
        nargs="+",
        metavar="KEY=VALUE",
        type=key_value,
        help="arguments of the method; needs exactly one --method",
    )
    parser.add_argument("--output", metavar="DIR", help="workspace of the runs (default runs)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N cases")
    parser.add_argument(
        "--shard",
        metavar="I/N",
        help="only the I-th of N shares of the cases; `idbench merge` joins them",
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="seed N + sample instead of hashed seeds"
    )
    parser.add_argument("--size", type=_size, metavar="WxH", help="size of the images in pixels")
    parser.add_argument(
        "--max-failures", type=float, metavar="SHARE", help="allowed share of failures (default 0)"
    )
    add_compute(parser)
    parser.add_argument(
        "--node-store",
        metavar="DIR",
        help="folder of each node for its images, where nodes share no file system; collected at "
        "the end",
    )


def flags(args: argparse.Namespace) -> dict[str, Any]:
    """The flags that were given, under the keys of the configuration."""
    given = {
        key: getattr(args, key)
        for key in RunConfig.__dataclass_fields__
        if getattr(args, key, None) is not None
    }
    if args.method:
        method_args = dict(args.method_args or [])
        if method_args and len(args.method) != 1:
            raise ValueError("--method-args needs exactly one --method; use a YAML file for more")
        given["methods"] = [{"name": name, "args": method_args} for name in args.method]
    elif args.method_args:
        raise ValueError("--method-args needs a --method")
    return given


def generate_options(config: RunConfig, stop: Callable[[], bool] = never) -> GenerateOptions:
    """How the configuration wants to generate."""
    return GenerateOptions(
        workspace=Path(config.output),
        data_root=data_root(),
        suite_target=str(Path(config.suite).resolve()) if Path(config.suite).exists() else None,
        limit=config.limit,
        shard=config.shard_pair(),
        seed=config.seed,
        size=(config.size[0], config.size[1]) if config.size else None,
        batch_size=None if config.batch_size == "auto" else config.batch_size,
        workers=None if config.workers == "auto" else config.workers,
        timeout=config.timeout,
        device=config.device,
        dtype=config.dtype,
        retry_failed=config.retry_failed,
        ray=config.ray(scoring=False),
        node_store=Path(config.node_store) if config.node_store else None,
        stop=stop,
    )


def score_options(config: RunConfig, stop: Callable[[], bool] = never) -> ScoreOptions:
    """How the configuration wants to score."""
    workspace, shard = Path(config.output), config.shard_pair()
    return ScoreOptions(
        workspace=shard_folder(workspace, shard) if shard else workspace,
        data_root=data_root(),
        batch_size=None if config.batch_size == "auto" else config.batch_size,
        workers=None if config.workers == "auto" else config.workers,
        device=config.device,
        dtype=config.dtype,
        base=Path(config.base) if config.base else None,
        retry_failed=config.retry_failed,
        timeout=config.timeout,
        ray=config.ray(scoring=True),
        stop=stop,
    )


def _add_executor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help="end a batch that takes longer; its samples are tried again one by one (default none)",
    )
    group = parser.add_argument_group("many machines")
    group.add_argument(
        "--executor", choices=["local", "ray"], help="ray: workers on a Ray cluster (extra ray)"
    )
    group.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        help="of the cluster, or auto; without it one is started on this machine",
    )
    group.add_argument(
        "--ray-gpus", type=float, metavar="SHARE", help="of a GPU per generating worker"
    )
    group.add_argument(
        "--ray-score-gpus", type=float, metavar="SHARE", help="of a GPU per scoring worker"
    )
    group.add_argument("--ray-cpus", type=float, metavar="N", help="CPUs per worker (default 1)")
    group.add_argument(
        "--ray-dashboard", action="store_true", default=None, help="serve it, on loopback"
    )


def _count_or_auto(text: str) -> int | str:
    if text == "auto":
        return text
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be auto or a whole number from 1, got {text!r}")
    return int(text)


def key_value(text: str) -> tuple[str, str]:
    """The two sides of KEY=VALUE, as a type of argparse."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise argparse.ArgumentTypeError(f"must be KEY=VALUE, got {text!r}")
    return key, value


def _size(text: str) -> list[int]:
    width, sign, height = text.partition("x")
    if not (sign and width.isdigit() and height.isdigit()):
        raise argparse.ArgumentTypeError(f"must be WIDTHxHEIGHT such as 512x512, got {text!r}")
    return [int(width), int(height)]
