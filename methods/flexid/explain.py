"""Why a prompt has the weights it has: the words found, and both schedules over the steps."""

import csv
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from idbench.methods.common.files import write_with
from idbench.methods.flexid.config import SipState
from idbench.methods.flexid.method import FlexID, Gating
from idbench.methods.protocol import Request

TEXT_NAME = "intent.txt"
FIGURE_NAME = "schedules.png"
TABLE_NAME = "weights.csv"

SIP: dict[SipState, str] = {
    "facet5": "on, FaceCLIP's tower",
    "clip_l14": "on, CLIP ViT-L/14",
    "off": "off",
    "unavailable": "unavailable: its weights are absent, so a run would have alpha = 0",
}


def describe(method: FlexID, prompt: str, gating: Gating) -> str:
    """The words found, what they decide, and the weights that follow, as lines of text."""
    lines = [f"prompt: {prompt}"]
    intent = gating.intent
    if intent is None:
        lines.append("gating is off: constant weights, the prompt is not read")
    else:
        for hit in intent.hits:
            verdict = "negated, does not count" if hit.negated else "counts"
            lines.append(f"  {hit.surface} ({hit.category}, {hit.lemma}): {verdict}")
        if not intent.hits:
            lines.append("  no word of the dictionary")
        if intent.forced:
            why = "forced"
        elif method.intent_mode == "graded":
            why = f"graded, categories that count: {', '.join(intent.categories) or 'none'}"
        else:
            why = "an edit" if intent.value else "no edit"
        gate = method.gate
        lines += [
            f"intent {intent.value:.3g} ({why})",
            f"gamma_sem {1 + gate.eta_up * intent.value:.3g}, "
            f"gamma_vis {1 - gate.eta_down * intent.value:.3g}",
        ]
    for name, values in (("alpha", gating.alpha), ("w", gating.w)):
        lines.append(
            f"{name}: {values[0]:.4g} at the first step, {values[-1]:.4g} at the last, "
            f"mean {values.mean():.4g}"
        )
    lines.append(f"text residual: {SIP[gating.sip]}")
    return "\n".join(lines) + "\n"


def draw(gating: Gating) -> Figure:
    """Both weights over the steps."""
    figure = Figure(figsize=(5.0, 3.0), layout="constrained")
    left = figure.add_subplot()
    right = left.twinx()
    steps = range(1, len(gating.alpha) + 1)
    panels = (
        (left, gating.alpha, "alpha, on the text", "tab:orange", "o"),
        (right, gating.w, "w, on the image stream", "tab:blue", "s"),
    )
    for axes, values, label, colour, marker in panels:
        axes.plot(steps, values, color=colour, marker=marker, markersize=3, linewidth=1.2)
        axes.set_ylabel(label, color=colour)
        axes.tick_params(axis="y", colors=colour)
        axes.set_ylim(0, 1.1 * max(float(values.max()), 1e-9))
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.set_xlabel("denoising step, from noise to image")
    left.set_title(_title(gating), fontsize=9)
    return figure


def _title(gating: Gating) -> str:
    # Categories, not words: matplotlib's own font has no Chinese.
    if gating.intent is None:
        return "gating off"
    found = ", ".join(gating.intent.categories) or "no edit word"
    return f"intent {gating.intent.value:.3g} ({'forced' if gating.intent.forced else found})"


def write_explanation(method: FlexID, request: Request, folder: Path) -> tuple[Path, Path, Path]:
    """Writes text, figure and table (CSV) for the prompt of a request; loads no network."""
    gating = method.gating(request.prompt, width=request.width, height=request.height)
    text, figure, table = (folder / name for name in (TEXT_NAME, FIGURE_NAME, TABLE_NAME))
    description = describe(method, request.prompt, gating)
    write_with(text, lambda path: path.write_text(description, encoding="utf-8"))
    write_with(figure, lambda path: draw(gating).savefig(path, format="png", dpi=150))

    def write_table(path: Path) -> None:
        with path.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["step", "alpha", "w"])
            for step, (alpha, w) in enumerate(zip(gating.alpha, gating.w, strict=True), start=1):
                rows.writerow([step, f"{alpha:.6f}", f"{w:.6f}"])

    write_with(table, write_table)
    return text, figure, table
