"""Fronts as pictures: PNG and SVG, the same bytes for the same points."""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from idbench import escape
from idbench.label_layout import Box, place_labels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Any: matplotlib types the keys as a literal union.
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "svg.hashsalt": "idbench",
    "svg.fonttype": "path",
    "text.parse_math": False,  # a label is text, never a formula
    "path.simplify": False,
}
INK, GREY = "#111111", "#8a8a8a"


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """An axis of a front: what is on it and which way is better."""

    title: str
    higher_is_better: bool
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A run on the plane, or in space if it has a `z`.

    `margins` are half the widths of its intervals, None without one. `probability` is the share of
    bootstrap draws in which it is on the front. Points of one `curve` are joined in their order;
    `printed` marks numbers from a paper, `knee` where a front bends.
    """

    label: str
    x: float
    y: float
    margins: tuple[float | None, float | None] = (None, None)
    on_front: bool = False
    probability: float | None = None
    curve: str = ""
    printed: bool = False
    knee: bool = False
    z: float | None = None

    @property
    def name(self) -> str:
        """What is written beside it."""
        name = escape.plain(self.label)
        if self.on_front and self.probability is not None:
            name += f" ({self.probability:.0%})"
        return f"{name}, knee" if self.knee else name


def draw_front(
    points: Sequence[Point], x: Axis, y: Axis, *, title: str = "", note: str = ""
) -> "Figure":
    """Draws points with names and intervals, and the front as a staircase.

    Members of the front are filled, the others hollow, printed numbers are crosses, so that the
    picture reads in black and white.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE), without_glyph_warnings():
        figure = Figure(figsize=(7.2, 5.0), dpi=150, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        _limits(axes, points, x, y)
        steps = _staircase(axes, [p for p in points if p.on_front], x, y)
        _curves(axes, points)
        for point in points:
            _draw_point(axes, point, x, y)
        # The arrow stays with its word: fill does not break at no-break spaces.
        axes.set_xlabel(fill(f"{x.title}   ({_better(x, '→', '←')}\N{NO-BREAK SPACE}better)", 90))
        axes.set_ylabel(fill(f"{y.title}   ({_better(y, '↑', '↓')}\N{NO-BREAK SPACE}better)", 54))
        axes.grid(color="#e6e6e6", linewidth=0.6)
        axes.set_axisbelow(True)
        rows = legend(axes, points)
        if title:
            heading = escape.plain(title)
            axes.set_title(heading, loc="left", fontsize=10, fontweight="bold", pad=9 + 13 * rows)
        if note:
            figure.supxlabel(fill(note, 120), fontsize=7, color="#444444", x=0.01, ha="left")
        canvas.draw()  # type: ignore[no-untyped-call]  # not annotated in matplotlib
        _names(axes, canvas, points, steps)
        figure.set_layout_engine("none")
    return figure


def save(figure: "Figure", path: Path) -> None:
    """Writes a figure as .png or .svg, whole, without dates: equal figures give equal bytes.

    Raises:
        ValueError: If the suffix is neither.
    """
    import matplotlib

    from idbench.files import write_whole

    formats: dict[str, dict[str, Any]] = {
        ".png": {"format": "png", "metadata": {"Software": None}},
        ".svg": {"format": "svg", "metadata": {"Date": None, "Creator": None}},
    }
    if path.suffix not in formats:
        raise ValueError(f"a plot is written as .png or .svg, not {path.name}")
    buffer = BytesIO()
    with matplotlib.rc_context(STYLE), without_glyph_warnings():
        figure.savefig(buffer, **formats[path.suffix])
    write_whole(path, buffer.getvalue())


@contextmanager
def without_glyph_warnings() -> Iterator[None]:
    """A name in a script that the font lacks is drawn as boxes; the CSV has it as it is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _better(axis: Axis, up: str, down: str) -> str:
    return up if axis.higher_is_better else down


def _limits(axes: Any, points: Sequence[Point], x: Axis, y: Axis) -> None:
    for axis, values, margins, set_limits in (
        (x, [p.x for p in points], [p.margins[0] or 0.0 for p in points], axes.set_xlim),
        (y, [p.y for p in points], [p.margins[1] or 0.0 for p in points], axes.set_ylim),
    ):
        if not values:
            continue
        low = max(axis.low, min(v - m for v, m in zip(values, margins, strict=True)))
        high = min(axis.high, max(v + m for v, m in zip(values, margins, strict=True)))
        room = 0.09 * (high - low) or 0.05 * max(abs(high), 1.0)
        set_limits(low - room, high + room)


def _staircase(axes: Any, members: Sequence[Point], x: Axis, y: Axis) -> list[tuple[float, float]]:
    """Draws the boundary of what the front dominates, out to the worse edges of the plot."""
    if not members:
        return []
    ordered = sorted(members, key=lambda p: p.x if x.higher_is_better else -p.x)
    left = axes.get_xlim()[0 if x.higher_is_better else 1]
    bottom = axes.get_ylim()[0 if y.higher_is_better else 1]
    path = [(left, ordered[0].y)]
    for here, following in zip(ordered, [*ordered[1:], None], strict=True):
        path.append((here.x, here.y))
        path.append((here.x, following.y if following is not None else bottom))
    axes.plot(*zip(*path, strict=True), color=INK, linewidth=1.0, linestyle=(0, (4, 2)), zorder=1)
    return path


def _curves(axes: Any, points: Sequence[Point]) -> None:
    for curve in dict.fromkeys(point.curve for point in points if point.curve):
        line = [(point.x, point.y) for point in points if point.curve == curve]
        axes.plot(*zip(*line, strict=True), color=GREY, linewidth=1.2, zorder=1.5)


def _draw_point(axes: Any, point: Point, x: Axis, y: Axis) -> None:
    for margin, vertical in zip(point.margins, (False, True), strict=True):
        if margin:
            centre, axis = (point.y, y) if vertical else (point.x, x)
            ends = (max(axis.low, centre - margin), min(axis.high, centre + margin))
            line = ([point.x] * 2, ends) if vertical else (ends, [point.y] * 2)
            axes.plot(*line, color=GREY, linewidth=0.9, solid_capstyle="butt", zorder=2)
    if point.printed:
        weight = 2.2 if point.on_front else 1.1
        axes.plot(
            point.x, point.y, marker="x", color=INK, markersize=6, markeredgewidth=weight, zorder=3
        )
        return
    axes.plot(
        point.x,
        point.y,
        marker="o",
        markersize=6.5,
        markeredgecolor=INK,
        markeredgewidth=1.1,
        markerfacecolor=INK if point.on_front else "white",
        zorder=3,
    )


def legend(axes: Any, points: Sequence[Point]) -> int:
    """Writes above the axes what filled, hollow, crossed and lined mean; returns its rows."""
    from matplotlib.lines import Line2D

    def key(label: str, **style: Any) -> Line2D:
        return Line2D([], [], label=label, linestyle="none", color=INK, markersize=6, **style)

    measured = [point for point in points if not point.printed]
    entries = []
    if any(point.on_front for point in measured):
        shown = any(point.probability is not None for point in measured)
        entries.append(key(f"on the front{' (share of resamples)' if shown else ''}", marker="o"))
    if any(not point.on_front for point in measured):
        entries.append(key("dominated", marker="o", markerfacecolor="white"))
    if any(point.printed for point in points):
        bold = any(point.printed and point.on_front for point in points)
        text = "printed in a paper (bold: on the front)" if bold else "printed in a paper"
        entries.append(key(text, marker="x"))
    if any(point.curve for point in points):
        entries.append(Line2D([], [], label="one parameter varied", color=GREY, linewidth=1.2))
    if any(margin for point in points for margin in point.margins):
        entries.append(Line2D([], [], label="95 % interval", color=GREY, linewidth=0.9))
    if not entries:
        return 0
    columns = len(entries) if len(entries) <= 4 else 3
    written = axes.legend(
        handles=entries,
        loc="lower left",
        bbox_to_anchor=(-0.012, 1.0),
        ncols=columns,
        frameon=False,
        fontsize=8,
        handletextpad=0.2,
        columnspacing=1.2,
        borderaxespad=0.1,
    )
    written.set_in_layout(False)
    return math.ceil(len(entries) / columns)


def _names(
    axes: Any, canvas: Any, points: Sequence[Point], steps: Sequence[tuple[float, float]]
) -> None:
    """Writes the names where they cover neither one another nor a point, if there is room."""
    from matplotlib.patheffects import withStroke

    renderer = canvas.get_renderer()
    frame = axes.get_window_extent(renderer)
    anchors = [_pixels(axes, point.x, point.y) for point in points]
    texts, sizes = [], []
    for point in points:
        text = axes.text(0, 0, point.name, fontsize=8, color=INK, zorder=4, va="bottom", ha="left")
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
        extent = text.get_window_extent(renderer)
        texts.append(text)
        sizes.append((extent.width + 4, extent.height + 1))
    lines = [_line(*pair) for pair in pairwise([_pixels(axes, *step) for step in steps])]
    for point in points:
        for margin, (dx, dy) in zip(point.margins, ((1, 0), (0, 1)), strict=True):
            if margin:
                ends = [
                    (point.x + sign * dx * margin, point.y + sign * dy * margin) for sign in (-1, 1)
                ]
                lines.append(_line(*(_pixels(axes, *end) for end in ends)))
    inside = Box(frame.x0, frame.y0, frame.x1, frame.y1)
    corners = place_labels(anchors, sizes, lines, inside, radius=9.0)
    back = axes.transData.inverted()
    for text, corner, size, anchor in zip(texts, corners, sizes, anchors, strict=True):
        text.set_position(back.transform(corner))
        box = Box(corner[0], corner[1], corner[0] + size[0], corner[1] + size[1])
        near = box.nearest(*anchor)
        if math.dist(near, anchor) > 20:
            leader = back.transform([anchor, near])
            axes.plot(leader[:, 0], leader[:, 1], color=GREY, linewidth=0.6, zorder=1.8)


def _pixels(axes: Any, x: float, y: float) -> tuple[float, float]:
    column, row = axes.transData.transform((x, y))
    return float(column), float(row)


def _line(one: tuple[float, float], other: tuple[float, float]) -> Box:
    """A horizontal or vertical line as a rectangle two pixels wide."""
    (x0, x1), (y0, y1) = sorted((one[0], other[0])), sorted((one[1], other[1]))
    return Box(x0 - 1, y0 - 1, x1 + 1, y1 + 1)
