"""Where identity enters: the activation of queries over the denoising steps (figure 7)."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import interpolate

from idbench.methods.common.files import write_with
from idbench.methods.dynamicid.layout import Box, query_grid
from idbench.methods.dynamicid.method import DynamicID, people_of
from idbench.methods.dynamicid.recorder import ActivationRecorder
from idbench.methods.protocol import Request

FIGURE_NAME = "activations.png"
TABLE_NAME = "activations.csv"


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """An image with the activations that led to it.

    `maps` is (steps, rows, columns) in [0, 1]: the gate of the conditional half, averaged over
    all cross-attentions at the grid of the finest. `by_layer` is (layers, steps): its mean over
    queries.
    """

    image: Image.Image
    maps: NDArray[np.float32]
    layers: tuple[str, ...]
    by_layer: NDArray[np.float32]
    boxes: tuple[Box, ...]
    layout_steps: int


def activations_of(
    recorder: ActivationRecorder, *, height: int, width: int
) -> tuple[NDArray[np.float32], tuple[str, ...], NDArray[np.float32]]:
    """Maps over steps, layer names, and means by layer and step, of one image's recording.

    Coarse maps are repeated to the finest grid.

    Raises:
        ValueError: If nothing was recorded, as with the gate off.
    """
    if not recorder.activations:
        raise ValueError("no activation was recorded; the gate must be on (activate_query=true)")
    layers = tuple(dict.fromkeys(layer for layer, _ in recorder.activations))
    steps = 1 + max(step for _, step in recorder.activations)
    finest = max(gate.shape[1] for gate in recorder.activations.values())
    size = query_grid(finest, height, width)
    maps, means = np.zeros((steps, *size), np.float32), np.zeros((len(layers), steps), np.float32)
    for (layer, step), gate in recorder.activations.items():
        conditional = gate[gate.shape[0] // 2 :].mean(dim=0)
        grid = conditional.reshape(1, 1, *query_grid(gate.shape[1], height, width))
        maps[step] += interpolate(grid, size=size, mode="nearest")[0, 0].numpy() / len(layers)
        means[layers.index(layer), step] = conditional.mean()
    return maps, layers, means


def explain(method: DynamicID, request: Request) -> Explanation:
    """Answers a request and records the activations.

    Raises:
        ValueError: If the request cannot be answered or the gate is off.
        NoFaceError: If a reference has no face.
    """
    height, width = request.height or method.height, request.width or method.width
    recorder = ActivationRecorder()
    output = method.pipeline(
        [request.prompt],
        [people_of(request)],
        [torch.Generator().manual_seed(request.seed)],
        height=height,
        width=width,
        recorder=recorder,
    )
    maps, layers, by_layer = activations_of(recorder, height=height, width=width)
    return Explanation(
        image=output.images[0],
        maps=maps,
        layers=layers,
        by_layer=by_layer,
        boxes=() if output.boxes is None else output.boxes[0],
        layout_steps=output.layout_steps,
    )


def draw(explanation: Explanation, num_steps: int = 6) -> Figure:
    """The image, its activation at some steps from first to last, and all layers over the steps."""
    steps = len(explanation.maps)
    chosen = sorted(set(np.linspace(0, steps - 1, min(num_steps, steps)).round().astype(int)))
    columns = len(chosen) + 1
    figure = Figure(figsize=(2.0 * columns, 4.6), layout="constrained")
    grid = figure.add_gridspec(2, columns)
    picture = figure.add_subplot(grid[0, 0])
    picture.imshow(np.asarray(explanation.image))
    picture.set_title("image", fontsize=9)
    picture.axis("off")
    _outline(picture, explanation.boxes, explanation.image.height, explanation.image.width)
    rows, cells = explanation.maps.shape[1:]
    for column, step in enumerate(chosen, start=1):
        panel = figure.add_subplot(grid[0, column])
        shown = panel.imshow(explanation.maps[step], vmin=0.0, vmax=1.0, cmap="magma")
        _outline(panel, explanation.boxes, rows, cells)
        panel.set_title(f"step {step + 1} of {steps}", fontsize=9)
        panel.axis("off")
    figure.colorbar(shown, ax=panel, label="activation", fraction=0.05)
    lines = figure.add_subplot(grid[1, :])
    for layer, means in zip(explanation.layers, explanation.by_layer, strict=True):
        lines.plot(np.arange(1, steps + 1), means, color=_shade(layer), linewidth=0.9)
    for label in ("down", "mid", "up"):
        if any(layer.startswith(label) for layer in explanation.layers):
            lines.plot([], [], color=_shade(label), label=f"{label} blocks")
    if explanation.boxes and explanation.layout_steps:
        lines.axvspan(0.5, explanation.layout_steps + 0.5, color="0.9", label="layout term on")
    lines.xaxis.set_major_locator(MaxNLocator(integer=True))
    lines.set_xlabel("denoising step")
    lines.set_ylabel("mean activation")
    lines.set_ylim(0.0, 1.0)
    lines.set_xlim(0.5, steps + 0.5)
    lines.legend(fontsize=8, ncols=4, loc="upper right")
    return figure


def _shade(layer: str) -> str:
    shades = {"down": "tab:blue", "mid": "tab:green", "up": "tab:orange"}
    return next(shade for start, shade in shades.items() if layer.startswith(start))


def _outline(panel: object, boxes: Sequence[Box], height: int, width: int) -> None:
    for y0, x0, y1, x1 in boxes:
        corner = (x0 * width - 0.5, y0 * height - 0.5)
        size = ((x1 - x0) * width, (y1 - y0) * height)
        panel.add_patch(Rectangle(corner, *size, fill=False, edgecolor="white", linewidth=1.0))  # type: ignore[attr-defined]  # matplotlib has no types


def save(explanation: Explanation, folder: Path) -> tuple[Path, Path]:
    """Writes the figure and the means by layer and step (CSV) to a folder; returns their paths."""
    figure_path, table_path = folder / FIGURE_NAME, folder / TABLE_NAME
    write_with(figure_path, lambda file: draw(explanation).savefig(file, format="png", dpi=150))

    def write_table(path: Path) -> None:
        with path.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["layer", "step", "mean_activation"])
            for layer, means in zip(explanation.layers, explanation.by_layer, strict=True):
                for step, mean in enumerate(means):
                    table.writerow([layer, step, f"{mean:.6f}"])

    write_with(table_path, write_table)
    return figure_path, table_path


def write_explanation(method: DynamicID, request: Request, folder: Path) -> tuple[Path, Path]:
    """Answers a request and writes what happened inside; for `idbench method explain`."""
    return save(explain(method, request), folder)
