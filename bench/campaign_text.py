"""A simulated campaign as text."""

from idbench.campaign import Simulation


def campaign_table(found: Simulation) -> str:
    """A row per run, the totals, and what the time goes to."""
    rows = [("method", "suite", "images", "workers", "GPU h", "hours", "GB")]
    for run in found.runs:
        stages = [stage for stage in (run.generation, run.scoring) if stage]
        rows.append(
            (
                run.method,
                run.suite,
                f"{run.images:,}",
                str(run.generation.workers),
                f"{sum(stage.gpu_seconds for stage in stages) / 3600:.2f}",
                f"{run.seconds / 3600:.2f}",
                f"{run.megabytes / 1000:.2f}",
            )
        )
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = [
        "  ".join(
            text.ljust(width) if place < 2 else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    total = sum(found.parts.values())
    lines += [
        "",
        f"GPU-hours   {found.gpu_hours:.2f} at work, {found.gpu_hours_reserved:.2f} reserved",
        f"wall time   {found.wall_hours:.2f} h",
        f"storage     {found.gigabytes:.2f} GB",
    ]
    if found.price is not None:
        lines.append(f"price       {found.price:.2f}, of the GPU-hours reserved")
    shares = ", ".join(
        f"{cause} {100 * seconds / total:.0f} %"
        for cause, seconds in sorted(found.parts.items(), key=lambda part: -part[1])
        if total and seconds / total >= 0.005
    )
    lines.append(f"bottleneck  {found.bottleneck} ({shares})")
    lines += [f"warning: {warning}" for warning in found.warnings]
    return "\n".join(lines)
