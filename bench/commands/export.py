"""`idbench export RUN...`: the scores of runs, one row per sample and column."""

import argparse
import sys
from pathlib import Path

from idbench.escape import spreadsheet
from idbench.files import write_whole
from idbench.store import load_frame


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `idbench export`."""
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="runs, or folders of runs"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default standard output")
    parser.add_argument(
        "--format",
        choices=["csv", "json", "parquet"],
        help="default: the ending of FILE, csv on standard output",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the rows."""
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
        data = frame.to_json(orient="records", indent=2, force_ascii=False).encode()
    else:
        texts = frame.select_dtypes(exclude="number").columns
        frame = frame.assign(**{name: frame[name].map(spreadsheet) for name in texts})
        data = frame.to_csv(index=False).encode()
    if args.output:
        write_whole(args.output, data)
        print(f"{len(frame)} rows in {args.output}", file=sys.stderr)
    else:
        sys.stdout.write(data.decode())
    return 0
