"""Fronts in three axes as pictures; see `plots` for two."""

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

from idbench import escape
from idbench.label_layout import Box, place_labels
from idbench.plots import GREY, INK, STYLE, Axis, Point, legend, without_glyph_warnings

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_front_3d(
    points: Sequence[Point], axes: Sequence[Axis], *, title: str = "", note: str = ""
) -> "Figure":
    """Draws points with a `z` in a box, each with a line down to its floor.

    Members of the front are filled, the others hollow.

    Raises:
        ValueError: If there are not three axes, or a point has no `z`.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if len(axes) != 3 or any(point.z is None for point in points):
        raise ValueError(f"three axes and points with z are needed, got {len(axes)} axes")
    with matplotlib.rc_context(STYLE), without_glyph_warnings():
        figure = Figure(figsize=(7.6, 6.2), dpi=150)
        canvas = FigureCanvasAgg(figure)
        box = figure.add_axes((0.02, 0.08, 0.88, 0.86), projection="3d")
        space: Any = box
        space.view_init(elev=22, azim=-58)
        space.set_box_aspect((1.15, 1.15, 0.9), zoom=1.0)
        floor = _limits(space, points, axes)
        for point in points:
            _draw_point(space, point, floor)
        for axis, label in zip(axes, ("set_xlabel", "set_ylabel", "set_zlabel"), strict=True):
            arrow = "↑" if axis.higher_is_better else "↓"
            title_lines = fill(f"{axis.title} ({arrow} better)", 46)
            getattr(space, label)(title_lines, fontsize=8, labelpad=14)
        space.tick_params(labelsize=7)
        space.locator_params(nbins=5)
        for ruler in (space.xaxis, space.yaxis, space.zaxis):
            ruler.pane.set_facecolor("#f7f7f7")
            ruler.pane.set_edgecolor("#dddddd")
            # The grid of 3-D axes has no other handle.
            ruler._axinfo["grid"].update(color="#e2e2e2", linewidth=0.6)
        for curve in dict.fromkeys(point.curve for point in points if point.curve):
            line = [(p.x, p.y, p.z) for p in points if p.curve == curve]
            space.plot(*zip(*line, strict=True), color=GREY, linewidth=1.2)
        if title:
            figure.text(
                0.02, 0.97, escape.plain(title), fontsize=10, fontweight="bold", va="center"
            )
        keys = figure.add_axes((0.03, 0.9, 0.9, 0.0), frameon=False)
        keys.set_axis_off()
        legend(keys, points)
        if note:
            figure.text(0.01, 0.01, fill(note, 120), fontsize=7, color="#444444", va="bottom")
        canvas.draw()  # type: ignore[no-untyped-call]  # not annotated in matplotlib
        _names(figure, space, canvas, points)
    return figure


def _limits(space: Any, points: Sequence[Point], axes: Sequence[Axis]) -> float:
    """Sets the ranges; returns where the floor is."""
    floor = 0.0
    setters = (space.set_xlim, space.set_ylim, space.set_zlim)
    for axis, setter, values in zip(
        axes,
        setters,
        ([p.x for p in points], [p.y for p in points], [p.z or 0.0 for p in points]),
        strict=True,
    ):
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        room = 0.07 * (high - low) or 0.05 * max(abs(high), 1.0)
        floor = max(axis.low, low - room)
        setter(floor, min(axis.high, high + room))
    return floor


def _draw_point(space: Any, point: Point, floor: float) -> None:
    space.plot([point.x] * 2, [point.y] * 2, [floor, point.z], color=GREY, linewidth=0.7)
    space.plot(
        [point.x],
        [point.y],
        [point.z],
        marker="x" if point.printed else "o",
        markersize=6.5,
        markeredgecolor=INK,
        markerfacecolor=INK if point.on_front else "white",
        linestyle="none",
    )


def _names(figure: Any, space: Any, canvas: Any, points: Sequence[Point]) -> None:
    from matplotlib.patheffects import withStroke
    from mpl_toolkits.mplot3d import proj3d  # type: ignore[import-untyped]  # no stubs

    renderer = canvas.get_renderer()
    width, height = figure.bbox.width, figure.bbox.height
    anchors, texts, sizes = [], [], []
    for point in points:
        flat = proj3d.proj_transform(point.x, point.y, point.z, space.get_proj())
        column, row = space.transData.transform(flat[:2])
        anchors.append((float(column), float(row)))
        text = figure.text(0, 0, point.name, fontsize=8, color=INK, va="bottom", ha="left")
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
        extent = text.get_window_extent(renderer)
        texts.append(text)
        sizes.append((extent.width + 4, extent.height + 1))
    frame = Box(0.0, 0.06 * height, 0.86 * width, 0.9 * height)
    for text, corner in zip(
        texts, place_labels(anchors, sizes, [], frame, radius=9.0), strict=True
    ):
        text.set_position((corner[0] / width, corner[1] / height))
