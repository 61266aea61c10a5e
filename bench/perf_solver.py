"""Stability of EditedID's hybrid solver beside DDIM, DPM-Solver++ and a fragmented schedule."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `idbench perf solver`."""
    parser.add_argument("--steps", type=int, default=6, help="diffusion steps (default 6)")
    parser.add_argument(
        "--seeds", type=int, default=20, help="random mixtures to average over (default 20)"
    )
    parser.add_argument(
        "--base",
        type=Path,
        metavar="FOLDER",
        help="Stable Diffusion 1.4 in diffusers' layout: measure on a model and on images",
    )
    parser.add_argument(
        "--image", type=Path, action="append", metavar="FILE", help="with --base; may be repeated"
    )
    parser.add_argument("--device", default="cpu", help="torch device (default cpu)")


def measure(args: argparse.Namespace) -> str:
    """Inverts and reconstructs with each solver; returns a table.

    Raises:
        ValueError: If only one of --base and --image is given, or an image cannot be used.
    """
    if bool(args.base) != bool(args.image):
        raise ValueError("--base and --image go together; without both the score is analytic")
    from idbench.methods.editedid.study import analytic_study, model_study, table

    if args.base is None:
        rows = analytic_study(args.seeds, args.steps)
        return f"analytic score, {args.seeds} mixtures, {args.steps} steps\n{table(rows)}"
    from PIL import Image

    from idbench.methods.editedid.registration import center_crop
    from idbench.methods.editedid.weights import load_pipeline
    from idbench.metrics.images import read_rgb

    pipeline = load_pipeline(args.base, device=args.device)
    images = [Image.fromarray(read_rgb(path)) for path in args.image]
    crops = [center_crop(image.size).image(image, pipeline.resolution) for image in images]
    rows = model_study(pipeline, crops, args.steps)
    return f"{args.base.name}, {len(crops)} images, {args.steps} steps\n{table(rows)}"
