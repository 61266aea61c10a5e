"""`idbench pareto`: preservation against editability, as PNG, SVG and CSV."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from idbench import escape, plots
from idbench.commands.table import choose_suite, load_scores
from idbench.files import write_whole
from idbench.fronts import Front, choose_axis, find_fronts, points_csv


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the verb."""
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="run directories, or a workspace of runs"
    )
    parser.add_argument(
        "--x",
        required=True,
        metavar="COLUMN",
        help="preservation, such as facesim; COLUMN:up or COLUMN:down says which way is better",
    )
    parser.add_argument("--y", required=True, metavar="COLUMN", help="editability")
    parser.add_argument(
        "--output", type=Path, default=Path(), metavar="DIR", help="where to write (default here)"
    )
    parser.add_argument("--suite", metavar="NAME", help="only this suite (default all)")
    parser.add_argument("--title", metavar="TEXT", help="title of the plot")


def run(args: argparse.Namespace) -> int:
    """Writes the plots and the points of each suite, and prints who is on the front."""
    frame, columns = load_scores(args.runs)
    axes = [choose_axis(args.x, columns), choose_axis(args.y, columns)]
    for found in find_fronts(choose_suite(frame, args.suite), axes):
        print_front(found)
        for path in write_front(found, args.output / f"pareto-{found.suite}", title=args.title):
            print(path)
    return 0


def draw(runs: Sequence[Path], *, x: str, y: str, output: Path) -> list[Path]:
    """Writes the front of runs of one suite as `output`.png, .svg and .csv; returns the paths.

    Raises:
        LookupError: If a column is unknown or ambiguous.
        ValueError: If the runs are of several suites.
    """
    frame, columns = load_scores(runs)
    fronts = find_fronts(frame, [choose_axis(x, columns), choose_axis(y, columns)])
    if len(fronts) != 1:
        raise ValueError(f"one suite at a time, got {[front.suite for front in fronts]}")
    return write_front(fronts[0], output)


def write_front(front: Front, stem: Path, *, title: str | None = None) -> list[Path]:
    """Writes `stem`.png, .svg and .csv; returns their paths."""
    figure = plots.draw_front(
        [
            plots.Point(
                label=run.label,
                x=run.means[0],
                y=run.means[1],
                margins=(run.margins[0], run.margins[1]),
                on_front=run.on_front,
                probability=run.probability,
            )
            for run in front.runs
        ],
        *(
            plots.Axis(
                title=axis.title,
                higher_is_better=axis.higher_is_better,
                low=axis.column.low,
                high=axis.column.high,
            )
            for axis in front.axes
        ),
        title=title if title is not None else f"{front.suite}: preservation against editability",
        note=" ".join(front.notes),
    )
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("png", "svg", "csv")]
    plots.save(figure, paths[0])
    plots.save(figure, paths[1])
    write_whole(paths[2], points_csv(front).encode())
    return paths


def print_front(front: Front) -> None:
    """Says who is on the front, and how surely."""
    print(f"suite {escape.plain(front.suite)}: the front of {len(front.runs)} runs")
    for point in front.runs:
        if point.on_front:
            sure = "" if point.probability is None else f", in {point.probability:.0%} of resamples"
            print(f"  {escape.plain(point.label)}{sure}")
    if front.missing:
        print(f"not drawn, no value on an axis: {', '.join(map(escape.plain, front.missing))}")
    for note in front.notes:
        print(escape.plain(note))
