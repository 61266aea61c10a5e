"""`idbench export RUN...`: the scores of runs, one row per sample and column.

`idbench export LAYOUT RUN` writes the images of a run as other scorers read them, `idbench export
--notes RUN...` what the methods noted of each image.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from idbench.canonical import canonical_json
from idbench.commands.score import suite_of
from idbench.commands.table import load_aggregates
from idbench.escape import plain, spreadsheet
from idbench.exporting import WRITERS, export_run
from idbench.files import write_whole
from idbench.lm_eval import results_document
from idbench.prompts.sources import data_root
from idbench.store import RunStore, find_runs, load_frame


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `idbench export`."""
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="runs, or folders of runs; with one of "
        f"{', '.join(WRITERS)} before a single run: its images in that layout",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="default standard output; a folder for a layout",
    )
    parser.add_argument(
        "--notes",
        action="store_true",
        help="what the methods noted of each image, such as weights, as JSON lines",
    )
    parser.add_argument(
        "--base", type=Path, metavar="RUN", help="run of the model without identity, for a layout"
    )
    parser.add_argument(
        "--format",
        choices=["csv", "json", "parquet", "lm-eval"],
        help="default: the ending of FILE, csv on standard output; lm-eval: the aggregates of one "
        "run as lm-evaluation-harness writes its results, or of several into a folder",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the rows."""
    if str(args.runs[0]) in WRITERS:
        return _export_layout(args)
    if args.base:
        raise ValueError("--base goes with a layout: idbench export ibench RUN --base RUN -o DIR")
    if args.notes:
        return _export_notes(args)
    if args.format == "lm-eval":
        return _export_results(args)
    formats = {".csv": "csv", ".json": "json", ".parquet": "parquet"}
    chosen = args.format or (formats.get(args.output.suffix) if args.output else "csv")
    if chosen is None:
        raise ValueError(f"{args.output} ends in none of {', '.join(formats)}; give a --format")
    if chosen == "parquet" and args.output is None:
        raise ValueError("Parquet is binary; give an --output FILE")
    frame, _ = load_frame(args.runs)
    if chosen == "parquet":
        try:
            data = frame.to_parquet(index=False)
        except ImportError as error:
            raise RuntimeError("Parquet needs pyarrow: pip install pyarrow") from error
    elif chosen == "json":
        # Escaped where it may be a terminal that shows it; the data are the same.
        ascii_only = args.output is None
        data = frame.to_json(orient="records", indent=2, force_ascii=ascii_only).encode()
    else:
        texts = frame.select_dtypes(exclude="number").columns
        frame = frame.assign(**{name: frame[name].map(_cell) for name in texts})
        data = frame.to_csv(index=False).encode()
    if args.output:
        write_whole(args.output, data)
        print(f"{len(frame)} rows in {args.output}", file=sys.stderr)
    else:
        sys.stdout.write(data.decode())
    return 0


def _cell(text: str) -> str:
    return spreadsheet(plain(text))


def _export_notes(args: argparse.Namespace) -> int:
    if args.format:
        raise ValueError("notes are JSON lines; leave out --format")
    lines = []
    for directory in find_runs(args.runs):
        with RunStore.open(directory) as store:
            place = {"label": store.identity.label, "suite": store.identity.suite["name"]}
            lines += [
                canonical_json(
                    place
                    | {"run": directory.name, "case_id": sample.case_id, "sample": sample.sample}
                    | {"notes": json.loads(sample.notes)}
                )
                for sample in store.samples()
                if sample.notes is not None
            ]
    text = "".join(f"{line}\n" for line in lines)
    if args.output:
        write_whole(args.output, text.encode())
        print(f"{len(lines)} notes in {args.output}", file=sys.stderr)
    else:
        for line in lines:
            print(json.dumps(json.loads(line), separators=(",", ":")))
    return 0


def _export_results(args: argparse.Namespace) -> int:
    directories = find_runs(args.runs)
    if len(directories) > 1 and (args.output is None or args.output.suffix):
        raise ValueError(f"{len(directories)} runs need a folder: --format lm-eval -o DIR")
    for directory in directories:
        with RunStore.open(directory) as store:
            facts = dataclasses.asdict(store.identity)
        aggregates, columns = load_aggregates([directory])
        document = results_document(aggregates, columns, facts)
        text = json.dumps(document, indent=2, allow_nan=False) + "\n"
        if args.output is None:
            sys.stdout.write(text)
            continue
        path = args.output
        if len(directories) > 1 or not path.suffix:
            path = path / directory.parent.name / directory.name / "results.json"
        write_whole(path, text.encode())
        print(path, file=sys.stderr)
    return 0


def _export_layout(args: argparse.Namespace) -> int:
    layout, *runs = map(str, args.runs)
    if len(runs) != 1 or args.output is None or args.format:
        raise ValueError(f"a layout takes one run and a folder: idbench export {layout} RUN -o DIR")
    directory, root = Path(runs[0]), data_root()
    made = export_run(
        layout,
        directory,
        suite_of(directory, root),
        args.output,
        data_root=root,
        base=args.base,
    )
    left = f", {made.without_image} samples have no image" if made.without_image else ""
    print(f"{made.images} images in {made.path}{left}", file=sys.stderr)
    return 0
