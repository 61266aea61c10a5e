"""`idbench pareto`: preservation against editability, as PNG, SVG and CSV."""

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from idbench import escape, plots
from idbench.commands.table import choose_suite, in_table_order
from idbench.composites import add_composites
from idbench.curves import Step, find_curves
from idbench.files import write_whole
from idbench.fronts import Front, FrontRun, choose_axis, find_fronts, points_csv
from idbench.paper_tables import find_table
from idbench.plots3d import draw_front_3d
from idbench.printed_points import (
    PrintedPoint,
    printed_front,
    printed_note,
    printed_points,
)
from idbench.set_scores import load_set_aggregates
from idbench.store import RunStore, find_runs, load_frame


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the verb."""
    parser.add_argument(
        "runs",
        nargs="*",
        type=Path,
        metavar="RUN",
        help="run directories, or a workspace of runs; may be left out with --published",
    )
    parser.add_argument(
        "--x",
        required=True,
        metavar="COLUMN",
        help="preservation, such as facesim; COLUMN:up or COLUMN:down says which way is better",
    )
    parser.add_argument(
        "--y", required=True, metavar="COLUMN", help="editability; `editability` is a composite"
    )
    parser.add_argument("--z", metavar="COLUMN", help="a third axis")
    parser.add_argument(
        "--published",
        metavar="PAPER:TABLE",
        help="draw the rows of a printed table, behind the runs or alone",
    )
    parser.add_argument(
        "--reference",
        type=lambda text: [float(part) for part in text.split(",")],
        metavar="X,Y",
        help="point down to which the dominated area or volume counts (default: the worst means)",
    )
    parser.add_argument(
        "--output", type=Path, default=Path(), metavar="DIR", help="where to write (default here)"
    )
    parser.add_argument("--suite", metavar="NAME", help="only this suite (default all)")
    parser.add_argument("--title", metavar="TEXT", help="title of the plot")


def run(args: argparse.Namespace) -> int:
    """Writes the plots and the points of each suite, and prints who is on the front."""
    requests = [name for name in (args.x, args.y, args.z) if name]
    table = find_table(args.published) if args.published else None
    if not args.runs:
        if table is None:
            raise ValueError("name runs to draw, or a printed table with --published")
        fronts, printed = [printed_front(table, requests)], []
    else:
        fronts = fronts_of(args.runs, requests, suite=args.suite, reference=args.reference)
        printed = printed_points(table, fronts[0].axes) if table and fronts else []
    for found in fronts:
        print_front(found)
        stem = args.output / f"pareto-{_safe(found.suite)}"
        note = printed_note(table, found.axes) if table and printed else ""
        for path in write_front(found, stem, title=args.title, printed=printed, note=note):
            print(path)
    return 0


def fronts_of(
    runs: Sequence[Path],
    requests: Sequence[str],
    *,
    suite: str | None = None,
    reference: Sequence[float] | None = None,
) -> list[Front]:
    """The front of each suite of some runs on two or three columns, composites included.

    Raises:
        LookupError: If a column or the suite is unknown, or a column is ambiguous.
    """
    frame, columns = load_frame(runs)
    sets, of_sets = load_set_aggregates(runs)
    if not columns and not of_sets:
        raise LookupError("these runs have no scores yet; run `idbench score` on them first")
    frame, columns, formulas = add_composites(choose_suite(frame, suite), columns, requests)
    axes = [choose_axis(request, in_table_order([*columns, *of_sets])) for request in requests]
    if suite is not None:
        sets = sets[sets["suite"] == suite]
    found = find_fronts(frame, axes, steps_of(runs), reference, sets)
    for formula in formulas:
        print(formula)
    return found


def steps_of(runs: Sequence[Path]) -> dict[str, Step]:
    """Which of the runs stand on a curve, and where."""
    facts: dict[str, dict[str, object]] = {}
    for directory in find_runs(runs):
        with RunStore.open(directory) as store:
            method, suite = store.identity.method, store.identity.suite
        facts[directory.name] = {
            "suite": suite["name"],
            "target": method.get("target", method["name"]),
            "args": method.get("args") or {},
        }
    return find_curves(facts)


def draw(runs: Sequence[Path], *, x: str, y: str, output: Path) -> list[Path]:
    """Writes the front of runs of one suite as `output`.png, .svg and .csv; returns the paths.

    Raises:
        LookupError: If a column is unknown or ambiguous.
        ValueError: If the runs are of several suites.
    """
    fronts = fronts_of(runs, [x, y])
    if len(fronts) != 1:
        raise ValueError(f"one suite at a time, got {[front.suite for front in fronts]}")
    return write_front(fronts[0], output)


def write_front(
    front: Front,
    stem: Path,
    *,
    title: str | None = None,
    printed: Sequence[PrintedPoint] = (),
    note: str = "",
) -> list[Path]:
    """Writes `stem`.png, .svg and .csv; returns their paths. `note` joins those of the front."""
    ends = {run.step.curve: run.run for run in front.runs if run.step}
    points = [_point(run, ends) for run in front.runs]
    points += [
        plots.Point(
            label=point.label,
            x=point.means[0],
            y=point.means[1],
            z=point.means[2] if len(point.means) > 2 else None,
            printed=True,
        )
        for point in printed
    ]
    axes = [
        plots.Axis(
            title=axis.title,
            higher_is_better=axis.higher_is_better,
            low=axis.column.low,
            high=axis.column.high,
        )
        for axis in front.axes
    ]
    foot = " ".join(filter(None, [*front.notes, *_volume_note(front), note]))
    heading = title if title is not None else f"{front.suite}: preservation against editability"
    if len(axes) == 3:
        figure = draw_front_3d(points, axes, title=heading, note=foot)
    else:
        figure = plots.draw_front(points, axes[0], axes[1], title=heading, note=foot)
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("png", "svg", "csv")]
    plots.save(figure, paths[0])
    plots.save(figure, paths[1])
    write_whole(paths[2], points_csv(front).encode())
    return paths


def _point(run: FrontRun, ends: Mapping[str, str]) -> plots.Point:
    """A run as drawn; along a curve the label is the parameter, at its end the whole name."""
    inside = run.step is not None and ends[run.step.curve] != run.run
    flat = len(run.means) == 2
    return plots.Point(
        label=run.step.text if run.step and inside else run.label,
        x=run.means[0],
        y=run.means[1],
        z=None if flat else run.means[2],
        margins=(run.margins[0], run.margins[1]) if flat else (None, None),
        on_front=run.on_front,
        probability=run.probability,
        curve=run.step.curve if run.step else "",
        printed=not run.run,
        knee=run.knee,
    )


def print_front(front: Front) -> None:
    """Says who is on the front, and how surely."""
    print(f"suite {escape.plain(front.suite)}: the front of {len(front.runs)} runs")
    for point in front.runs:
        if point.on_front:
            sure = "" if point.probability is None else f", in {point.probability:.0%} of resamples"
            bend = ", the knee" if point.knee else ""
            print(f"  {escape.plain(point.label)}{sure}{bend}")
    if front.missing:
        print(f"not drawn, no value on an axis: {', '.join(map(escape.plain, front.missing))}")
    for note in (*front.notes, *_volume_note(front)):
        print(escape.plain(note))


def _volume_note(front: Front) -> list[str]:
    found = front.volume
    if found is None:
        return []
    what = "area" if len(front.axes) == 2 else "volume"
    sure = "" if found.low is None else f" [{found.low:.3g}, {found.high:.3g}]"
    corner = ", ".join(f"{value:.3g}" for value in found.reference)
    return [f"Dominated {what} down to ({corner}): {found.value:.3g}{sure}."]


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]", "-", name)
