"""`idbench report RUN... -o DIR`: a static page of tables, fronts, distributions and pictures."""

import argparse
import sys
from pathlib import Path
from typing import get_args

from idbench.commands.pareto import steps_of
from idbench.commands.score import suite_of
from idbench.commands.table import choose_columns, in_table_order, load_scores
from idbench.escape import plain
from idbench.files import write_whole
from idbench.prompts.sources import data_root
from idbench.report_data import RunSource, collect
from idbench.report_images import Faces, copy_pictures, default_faces
from idbench.report_page import render_page
from idbench.set_scores import load_set_aggregates
from idbench.store import find_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the verb."""
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="run directories, or a workspace of runs"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("report"), metavar="DIR", help="default report"
    )
    parser.add_argument(
        "--columns", nargs="+", metavar="NAME", help="which columns, full or short (default all)"
    )
    parser.add_argument(
        "--faces",
        choices=get_args(Faces),
        help="show pictures, blur them, or leave them out (default: show where every source of the "
        "suite may be redistributed, else blur)",
    )
    parser.add_argument("--title", default="idbench report", metavar="TEXT")


def run(args: argparse.Namespace) -> int:
    """Writes index.html and the pictures."""
    root = data_root()
    directories = find_runs(args.runs)
    sources = [RunSource(directory, suite_of(directory, root)) for directory in directories]
    frame, of_samples = load_scores(directories)
    sets, of_sets = load_set_aggregates(directories)
    columns = in_table_order([*of_samples, *of_sets])
    if args.columns:
        columns = choose_columns(columns, args.columns)
    faces: Faces = args.faces or default_faces(source.suite for source in sources)
    found = collect(
        sources,
        frame,
        columns,
        data_root=root,
        faces=faces,
        title=args.title,
        sets=sets,
        steps=steps_of(directories),
    )
    for line in dict.fromkeys(found.missing_references):
        print(f"no reference in the report: {plain(line)}", file=sys.stderr)
    for path in copy_pictures(found.pictures, args.output / "images", faces):
        print(f"no picture in the report, cannot be read: {plain(str(path))}", file=sys.stderr)
    write_whole(args.output / "index.html", render_page(found.document).encode())
    if faces == "blur" and args.faces is None:
        print(
            "pictures are blurred: the suite holds faces that may not be passed on; "
            "--faces show is for your own eyes",
            file=sys.stderr,
        )
    print(args.output / "index.html")
    return 0
