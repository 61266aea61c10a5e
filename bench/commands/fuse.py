"""`idbench fuse`: cross-attention weights of several trainings into one file (EditIDv2, eq. 12)."""

import argparse
import csv
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from idbench.aggregate import aggregate
from idbench.commands import options
from idbench.config import read_config
from idbench.evaluate import score
from idbench.fronts import choose_axis
from idbench.fusion_search import MAX_EVALUATIONS, Point, SearchResult, Weights, search
from idbench.generate import generate
from idbench.method_spec import MethodSpec
from idbench.prompts.sources import data_root
from idbench.prompts.suites import load_suite
from idbench.store import load_frame

STRATEGIES = ("weighted_average", "add", "multiply")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds one subcommand per way to fuse."""
    ways = parser.add_subparsers(dest="way", metavar="WAY", required=True)

    linear = ways.add_parser("linear", help="the sum of w_i W_i over cross-attention weights")
    linear.add_argument("files", nargs="+", type=Path, metavar="FILE")
    linear.add_argument("--weights", nargs="+", type=float, required=True, metavar="W")
    linear.add_argument(
        "--base", type=Path, metavar="FILE", help="fuse differences to this file; any sum of W"
    )
    linear.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")

    official = ways.add_parser("official", help="what the authors' merge script makes of two files")
    official.add_argument("a", type=Path, metavar="A")
    official.add_argument("b", type=Path, metavar="B")
    official.add_argument("--strategy", choices=STRATEGIES, required=True)
    official.add_argument("--alpha", type=float, required=True, help="in [0, 1]")
    official.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")

    tuned = ways.add_parser(
        "search", help="coefficients tuned on a suite by the harness's metrics; the whole front"
    )
    options.add_generate(tuned)
    tuned.add_argument("--files", nargs="+", type=Path, required=True, metavar="FILE")
    tuned.add_argument("--metrics", required=True, help="names, separated by commas")
    column = "a column, or COLUMN:up or COLUMN:down to say which way is better"
    tuned.add_argument("--preservation", required=True, metavar="COLUMN", help=column)
    tuned.add_argument(
        "--editability", nargs="+", required=True, metavar="COLUMN", help="as --preservation"
    )
    tuned.add_argument("--floor", type=float, default=float("-inf"), help="least preservation")
    tuned.add_argument(
        "--kappa", type=float, default=1.0, help="weight of preservation (default 1)"
    )
    tuned.add_argument(
        "--least-coverage",
        type=float,
        default=0.9,
        metavar="SHARE",
        help="share of the samples that every score of the best must stand on (default 0.9)",
    )
    tuned.add_argument("--base", metavar="RUN", help="run of the model without identity")
    tuned.add_argument(
        "--max-evaluations", type=int, default=MAX_EVALUATIONS, help="with three files or more"
    )


def run(args: argparse.Namespace) -> int:
    """Fuses, or searches and then fuses."""
    if args.way == "search":
        return _search(args)
    # imported on use: this verb's help needs no torch
    from idbench.methods.editidv2.fusion import fuse_files, fuse_files_officially

    if args.way == "linear":
        result = fuse_files(args.files, args.weights, args.output, base=args.base)
    else:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        result = fuse_files_officially(
            args.a, args.b, args.strategy, args.alpha, args.output, timestamp=now
        )
    print(f"wrote {result}")
    return 0


def _search(args: argparse.Namespace) -> int:
    from idbench.methods.editidv2.fusion import fuse_files, is_fusion

    if args.method is None and args.config is None:
        args.method = ["editidv2"]
    metrics = [name for name in args.metrics.split(",") if name]
    config = read_config(args.config, {**options.flags(args), "metrics": metrics})
    methods = config.method_specs()
    if len(methods) != 1:
        raise ValueError(f"a fusion is searched for one method, got {len(methods)}")
    (method,) = methods
    suite = load_suite(config.suite, data_root=data_root())
    fusions = Path(config.output) / "fusions"

    def evaluate(weights: Weights) -> Point:
        name = "-".join(f"{weight:.4f}" for weight in weights)
        fused = fusions / f"{name}.safetensors"
        # the bytes of two equal fusions differ, and with them the run: a search that goes on
        # needs the file it made before
        if not is_fusion(fused, args.files, weights):
            fuse_files(args.files, weights, fused)
        spec = MethodSpec(
            name=method.name, args={**method.args, "pulid": str(fused)}, label=f"w={name}"
        )
        (done,) = generate(suite, [spec], options.generate_options(config))
        score([(done.directory, suite)], config.metrics, options.score_options(config))
        point = _point(weights, done.directory, args.preservation, args.editability)
        shown = " ".join(f"{value:.6g}" for value in (point.preservation, *point.editability))
        print(f"{name}: {shown} on {100 * point.coverage:.0f} %", file=sys.stderr)
        return point

    result = search(
        len(args.files),
        evaluate,
        kappa=args.kappa,
        floor=args.floor,
        least_coverage=args.least_coverage,
        max_evaluations=args.max_evaluations,
    )
    names = [args.preservation, *args.editability]
    points = Path(config.output) / "fusion-points.csv"
    _write_points(points, names, result)
    _print_points(names, result)
    print(points, file=sys.stderr)
    if result.best is None:
        print("no fusion reaches the floor and the coverage with every score", file=sys.stderr)
        return 1
    best = result.points[result.best].weights
    output = fuse_files(args.files, best, Path(config.output) / "fused.safetensors")
    print(f"wrote {output}")
    return 0


def _point(weights: Weights, run: Path, preservation: str, editability: list[str]) -> Point:
    """The means of a run in the columns asked for, turned so that larger is better."""
    frame, columns = load_frame([run])
    table = aggregate(frame)
    keys = zip(table["column"].tolist(), table["fingerprint"].tolist(), strict=True)
    numbers = table[["mean", "n", "total"]].to_numpy(np.float64).tolist()
    rows = dict(zip(keys, numbers, strict=True))
    values, coverage = [], []
    for request in (preservation, *editability):
        axis = choose_axis(request, columns)
        mean, count, total = rows[axis.column.name, axis.column.fingerprint]
        values.append(mean if axis.higher_is_better else -mean)
        coverage.append(count / total)
    return Point(weights, values[0], tuple(values[1:]), min(coverage))


def _rows(names: list[str], result: SearchResult) -> list[list[str]]:
    header = [f"w{i + 1}" for i in range(len(result.points[0].weights))]
    rows = [[*header, *names, "coverage", "front", "best"]]
    for number, point in enumerate(result.points):
        scores = [point.preservation, *point.editability]
        rows.append(
            [
                *(f"{weight:g}" for weight in point.weights),
                *(f"{value:.6g}" for value in scores),
                f"{point.coverage:.3g}",
                "yes" if result.on_front[number] else "",
                "yes" if number == result.best else "",
            ]
        )
    return rows


def _write_points(path: Path, names: list[str], result: SearchResult) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(_rows(names, result))


def _print_points(names: list[str], result: SearchResult) -> None:
    rows = _rows(names, result)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
