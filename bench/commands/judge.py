"""`idbench judge RUN... --endpoint URL --model NAME`: scores by a vision-language model."""

import argparse
import os
import sys
from pathlib import Path

from idbench.commands.score import suite_of
from idbench.judging import judge_run
from idbench.metrics.fetch import OfflineError, is_offline
from idbench.metrics.judge import Judge, JudgeSettings
from idbench.prompts.sources import data_root
from idbench.store import find_runs

KEY_VARIABLE = "IDBENCH_JUDGE_KEY"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `idbench judge`."""
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="runs, or folders of runs"
    )
    parser.add_argument(
        "--endpoint",
        required=True,
        metavar="URL",
        help="base of an OpenAI-compatible interface, such as http://localhost:8000/v1; the "
        f"images go there. A key is taken from ${KEY_VARIABLE}",
    )
    parser.add_argument("--model", required=True, metavar="NAME", help="name of the model there")
    parser.add_argument("--passes", type=int, default=3, metavar="N", help="answers averaged (3)")
    parser.add_argument("--temperature", type=float, default=1.0, metavar="T", help="default 1")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the first pass (0)")


def run(args: argparse.Namespace) -> int:
    """Judges what has no score yet."""
    if args.passes < 1:
        raise ValueError(f"--passes must be at least 1, got {args.passes}")
    local = args.endpoint.startswith(("http://127.0.0.1", "http://localhost", "http://[::1]"))
    if is_offline(os.environ) and not local:
        raise OfflineError("offline mode is on, so no endpoint on another machine is asked")
    root = data_root()
    settings = JudgeSettings(
        endpoint=args.endpoint,
        model=args.model,
        temperature=args.temperature,
        passes=args.passes,
        seed=args.seed,
    )
    for directory in find_runs(args.runs):
        cache = directory.parent.parent / "judge-answers"
        judge = Judge(settings, cache, api_key=os.environ.get(KEY_VARIABLE))
        count = judge_run(directory, suite_of(directory, root), judge, root)
        print(f"{directory}: {count} samples judged by {args.model}", file=sys.stderr)
    return 0
